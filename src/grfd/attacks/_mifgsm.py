"""MI-FGSM (Dong et al. 2018, arXiv 1710.06081, algorithm 1): signed steps along accumulated gradients (momentum)."""

import torch

from grfd.attacks._vmifgsm import vmifgsm
from grfd.attacks.inputs import Model
from grfd.types import Images, Labels


def mifgsm(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    step_size: float,
    steps: int,
    decay: float = 1.0,
    momentum_floor: float = 1e-12,
    loss: str = "cross_entropy",
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """μ ← decay·μ + g / mean|g|, x ← P(x + step_size·sign μ) (eq. 6 and 7): VMI-FGSM without neighbours.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1].
    `generator` is unused, because nothing is drawn. Other keywords, and what is raised, as in `vmifgsm` and `pgd`.
    """
    return vmifgsm(
        model,
        images,
        labels,
        eps=eps,
        step_size=step_size,
        steps=steps,
        decay=decay,
        neighbours=0,
        momentum_floor=momentum_floor,
        loss=loss,
        keep=keep,
        active_set=active_set,
        bounds=bounds,
        generator=generator,
    )
