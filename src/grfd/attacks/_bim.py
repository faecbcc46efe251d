"""BIM (Kurakin et al. 2017, arXiv 1607.02533, section 2.2): FGSM in small steps that start at the image itself."""

import torch

from grfd.attacks._pgd import pgd
from grfd.attacks.inputs import Model
from grfd.types import Images, Labels


def bim(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    step_size: float,
    steps: int,
    loss: str = "cross_entropy",
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """PGD without a random start.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1].
    `generator` is unused, because nothing is drawn. Other keywords, and what is raised, as in `pgd`.
    """
    return pgd(
        model,
        images,
        labels,
        eps=eps,
        step_size=step_size,
        steps=steps,
        loss=loss,
        random_start=False,
        keep=keep,
        active_set=active_set,
        bounds=bounds,
        generator=generator,
    )
