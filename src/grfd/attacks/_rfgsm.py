"""R+FGSM (Tramèr et al. 2018, arXiv 1705.07204, section 4.2): a random signed step, then FGSM with the rest of ε."""

from functools import partial

import torch

from grfd.attacks.ascent import Ascent, FindDirection, State, steepest_ascent
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import slope
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed
from grfd.attacks.ranges import NOT_NEGATIVE, Range, in_range
from grfd.attacks.threat import Batch, normal, project
from grfd.types import Images, Labels, PerExample


def rfgsm(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    random_step: float | None = None,
    steps: int = 1,
    loss: str = "cross_entropy",
    restarts: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """x′ = x + random_step·sign(N(0, I)), then x ← P(x + (ε − random_step)·sign(∇_x loss)), `steps` times.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and random_step in pixels of [0, 1]. If
    random_step is None, it is ε/2, as in the paper. The paper takes one step, TorchAttacks takes ten. Other keywords,
    and what is raised, as in `pgd`. Also raises UserError where random_step is not in [0, ε].
    """
    first = eps / 2 if random_step is None else random_step
    in_range(eps=(eps, NOT_NEGATIVE), random_step=(first, Range(0, eps)))

    ascent = Ascent(eps - first, steps, keep, active_set, restarts, generator=generator)
    with attacking(model, images, labels, eps, bounds) as (model, batch):
        return steepest_ascent(model, batch, _gradient(model, loss), ascent, partial(_random_signs, first))


def _random_signs(step: float, batch: Batch, generator: torch.Generator | None) -> Images:
    noise = normal(batch.images, tuple(batch.images.shape), generator)
    return project(batch.images + step * noise.sign(), batch)


def _gradient(model: CheckedModel, loss: str) -> FindDirection:
    def direction(iterates: Images, labels: Labels, state: State, last: bool) -> tuple[PerExample, Images, State]:
        slopes = slope(model, iterates[None], labels, partial(climbed, loss))
        return slopes.lead[0], slopes.gradient[0], state

    return direction
