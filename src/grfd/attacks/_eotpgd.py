"""EOT-PGD (Zimmermann 2019, arXiv 1907.00895; EOT: Athalye et al. 2018, arXiv 1707.07397): PGD on a mean gradient."""

from functools import partial

import torch

from grfd.attacks.ascent import Ascent, FindDirection, State, steepest_ascent
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import repeat, slope, total
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed
from grfd.attacks.threat import Norm, random_point
from grfd.errors import UserError
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
    """PGD along Σ ∇_x loss, summed over `samples` random answers of the model.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1]. All samples
    are in one batch, so a random model must draw independently for each row, not once per call. Iterates are compared
    by their mean lead over the samples. Pass `active_set=False` for a random model: `active_set=True` asserts
    determinism. If the first gradients are bit-identical, one sample is used from then on, and the attack is PGD.
    Other keywords, and what is raised, as in `pgd`.
    """
    ascent = Ascent(step_size, steps, keep, active_set, restarts, samples, generator)
    if norm not in ("linf", "l2"):
        raise UserError(f"{norm=}; expected 'linf' or 'l2'")
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        direction = _mean_gradient(model, loss, samples, active_set)
        return steepest_ascent(model, batch, direction, ascent, random_point if random_start else None)


def _mean_gradient(model: CheckedModel, loss: str, samples: int, deterministic: bool) -> FindDirection:
    """Along the sum of `samples` gradients. If `deterministic`, along one gradient as soon as all are bit-identical."""
    draws = samples

    def direction(iterates: Images, labels: Labels, state: State, last: bool) -> tuple[PerExample, Images, State]:
        nonlocal draws
        slopes = slope(model, repeat(iterates, draws), labels, partial(climbed, loss))
        if deterministic and draws > 1 and (slopes.gradient == slopes.gradient[0]).all():
            draws = 1
        # The sum has the direction of the summed loss's gradient, because the common scale of an example is positive.
        summed, _ = total(slopes.gradient, slopes.log_scale)
        return slopes.lead.mean(0), summed, state

    return direction
