"""EOT-PGD (Zimmermann 2019, arXiv 1907.00895; EOT: Athalye et al. 2018, arXiv 1707.07397): PGD on a mean gradient."""

from functools import partial

import torch

from grfd.attacks.ascent import Ascent, FindDirection, State, steepest_ascent
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import repeat, slope, total
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed
from grfd.attacks.threat import Norm, random_point
from grfd.types import Images, Labels, PerExample


def eotpgd(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    step_size: float,
    steps: int,
    samples: int = 2,
    loss: str = "cross_entropy",
    random_start: bool = True,
    restarts: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """PGD along Σ ∇_x loss over `samples` draws of a random model; other keywords as in `pgd`.

    The draws lie in one batch, so the model must draw anew for each row, not once a call. Iterates are judged by
    their mean lead over the draws. For a random model pass `active_set=False`: with an active set the model is
    deterministic by the caller's word, and where all draws of the first look agree to the bit, one is taken from then
    on, and this is PGD. Raises UserError as `pgd` does.
    """
    ascent = Ascent(step_size, steps, keep, active_set, restarts, samples, generator)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        direction = _mean_gradient(model, loss, samples, active_set)
        return steepest_ascent(model, batch, direction, ascent, random_point if random_start else None)


def _mean_gradient(model: CheckedModel, loss: str, samples: int, deterministic: bool) -> FindDirection:
    """Along the sum of `samples` gradients, or of one from where all of them agree to the bit if `deterministic`."""
    draws = samples

    def direction(iterates: Images, labels: Labels, state: State, last: bool) -> tuple[PerExample, Images, State]:
        nonlocal draws
        seen = slope(model, repeat(iterates, draws), labels, partial(climbed, loss))
        if deterministic and draws > 1 and (seen.gradient == seen.gradient[0]).all():
            draws = 1
        # The direction of the sum is that of the summed loss: the common scale of an example's draws is positive.
        summed, _ = total(seen.gradient, seen.log_scale)
        return seen.lead.mean(0), summed, state

    return direction
