"""PGD (Madry et al. 2018, arXiv 1706.06083, section 2.1): signed steps of fixed size, projected onto the ball."""

import torch

from grfd.attacks._eotpgd import eotpgd
from grfd.attacks.inputs import Model
from grfd.attacks.threat import Norm
from grfd.types import Images, Labels


def pgd(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    step_size: float,
    steps: int,
    loss: str = "cross_entropy",
    random_start: bool = True,
    restarts: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """x ← P(x + step_size · sign(∇_x loss)), from a point drawn uniformly in the ball. It is EOTPGD with one sample.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1];
    loss: a key of `losses.LOSSES`.

    - `active_set`: an example leaves the batch with the first iterate (or clean image) that is misclassified. Pass
      False for a random model. Its first success is the luckiest of many draws: if it counts, the attack is overstated,
      and under new draws the image has not moved far enough.
    - `keep`: "best" returns the iterate that the model gets most wrong (`losses.lead`), so that no success is lost.
      "last" returns the last iterate, as the original does. For a random model, the choice of the best iterate is
      random too, and "last" or many samples are the better choice.
    - `restarts`: each works on the examples that do not fool the model yet. The best result of all is returned.
    - `norm`: "linf" or "l2". In L2, ε and step_size are Euclidean lengths, and a step goes along ∇/‖∇‖.
    - `generator`: for the starting points. None draws from torch's global generator.

    Raises UserError for a wrong shape, range, ε, loss, keep or count.
    """
    return eotpgd(
        model,
        images,
        labels,
        eps=eps,
        step_size=step_size,
        steps=steps,
        samples=1,
        loss=loss,
        random_start=random_start,
        restarts=restarts,
        keep=keep,
        active_set=active_set,
        bounds=bounds,
        norm=norm,
        generator=generator,
    )
