"""VMI-FGSM (Wang & He 2021, arXiv 2103.15571, algorithm 1): momentum over gradients tuned by their variance."""

from functools import partial
from typing import NamedTuple

import torch

from grfd.attacks.ascent import Ascent, FindDirection, State, steepest_ascent
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import Points, slope, total
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed
from grfd.attacks.ranges import COUNT_OR_NONE, NOT_NEGATIVE, in_range
from grfd.attacks.threat import uniform
from grfd.types import Images, Labels, PerExample


class _Tuning(NamedTuple):
    """The settings of momentum and variance tuning. `radius` is that of the neighbourhood, in pixels of [0, 1]."""

    decay: float
    neighbours: int
    radius: float
    momentum_floor: float
    generator: torch.Generator | None


def vmifgsm(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    step_size: float,
    steps: int,
    decay: float = 1.0,
    neighbours: int = 5,
    beta: float = 1.5,
    momentum_floor: float = 1e-12,
    loss: str = "cross_entropy",
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """Each step: μ ← decay·μ + (g + v) / mean|g + v|, x ← P(x + step_size·sign μ), v ← mean ∇ at the neighbours − g.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1].

    - `neighbours`: points x + U(±beta·ε), not clamped, which are in one batch with x.
    - `momentum_floor`: lower bound of mean|g + v|, the mean over an example's pixels, which is the L1 norm of the paper
      up to a constant. The original has no bound (0): a single zero gradient then makes the momentum NaN, and the
      example never moves again.

    Variance tuning adds the gradients of several points, whose cross-entropies differ in scale. The scales are kept as
    logarithms, so that the sum is that of the paper even where the model is very confident. Other keywords, and what is
    raised, as in `pgd`.
    """
    in_range(decay=(decay, NOT_NEGATIVE), neighbours=(neighbours, COUNT_OR_NONE))
    in_range(beta=(beta, NOT_NEGATIVE), momentum_floor=(momentum_floor, NOT_NEGATIVE))

    ascent = Ascent(step_size, steps, keep, active_set, generator=generator)
    tuning = _Tuning(decay, neighbours, beta * eps, momentum_floor, generator)
    with attacking(model, images, labels, eps, bounds) as (model, batch):
        return steepest_ascent(model, batch, _tuned(model, loss, tuning), ascent, initial_state=_at_rest)


def _at_rest(start: Images) -> State:
    """Momentum, variance and the variance's log scale before the first step."""
    return torch.zeros_like(start), torch.zeros_like(start), start.new_full((len(start),), -torch.inf)


def _tuned(model: CheckedModel, loss: str, tuning: _Tuning) -> FindDirection:
    """Algorithm 1, lines 4 to 8."""

    def direction(iterates: Images, labels: Labels, state: State, last: bool) -> tuple[PerExample, Images, State]:
        momentum, variance, variance_scale = state
        # After the last step, the variance is not used.
        points = iterates[None] if last else _around(iterates, tuning)
        slopes = slope(model, points, labels, partial(climbed, loss))
        gradient, scale = slopes.gradient[0], slopes.log_scale[0]
        tuned, _ = total(torch.stack([gradient, variance]), torch.stack([scale, variance_scale]))
        size = tuned.abs().mean((1, 2, 3), keepdim=True).clamp_min(tuning.momentum_floor)
        momentum = tuning.decay * momentum + tuned / size
        if points.shape[0] > 1:
            terms = torch.cat([-gradient[None], slopes.gradient[1:] / tuning.neighbours])
            variance, variance_scale = total(terms, slopes.log_scale)
        return slopes.lead[0], momentum, (momentum, variance, variance_scale)

    return direction


def _around(images: Images, tuning: _Tuning) -> Points:
    """[1 + neighbours, batch, …]: the images themselves, then their neighbours."""
    shape = (tuning.neighbours, *images.shape)
    return torch.cat([images[None], images + uniform(images, shape, -tuning.radius, tuning.radius, tuning.generator)])
