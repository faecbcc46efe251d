"""PGD (Madry et al. 2018, arXiv 1706.06083): signed steps of a fixed size, projected onto the ball."""

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
    """x ← P(x + step_size · sign(∇_x loss)), from a uniform point of the ball: EOTPGD with a single sample.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1];
    loss: a key of `losses.LOSSES`.

    - `active_set`: an example leaves the batch with the first iterate (the clean image included) that is
      misclassified. Pass False for a model that answers at random: the first success is then the luckiest of many
      draws. Counted as it stands it overstates the attack; judged by new draws, the image has come too short a way.
    - `keep`: "best" returns the iterate that the model gets most wrong (`losses.lead`), so no success along the way
      is lost; "last" returns the last one, as the original does. For a random model that verdict is a draw too:
      "last", or many samples, is then the better choice.
    - `restarts`: each works on what is not fooled yet; the best of all is returned.
    - `norm`: "linf", or "l2": then ε and step_size are Euclidean lengths, and a step goes along ∇/‖∇‖ in place of its
      sign.
    - `generator`: for the starts; None draws from torch's global generator.

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
