"""FMN, the fast minimum-norm attack (Pintor et al. 2021, arXiv 2102.12827, algorithm 1).

It searches for the smallest perturbation, not for one of length ε. A longer one than ε is not a success.
"""

from functools import partial
from typing import NamedTuple

import torch

from grfd.attacks.inputs import Model, check_stretch, searching
from grfd.attacks.losses import margin
from grfd.attacks.ranges import COUNT, POSITIVE, POSITIVE_SHARE, in_range
from grfd.attacks.shortest import Visit, Walk, annealed, plane_distance, shortest_within, walked
from grfd.attacks.threat import DUAL_ORDER, Batch, Norm, length, onto_l1_ball, per_image, steepest
from grfd.types import Images, Labels, Logits, PerExample


class _Schedule(NamedTuple):
    """First and last values of the step size α and of the factor γ of the radius, and the range of a pixel."""

    alpha: tuple[float, float]
    gamma: tuple[float, float]
    pixel: float


def fmn(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    first_step: float = 1.0,
    last_step: float = 0.01,
    gamma: float = 0.05,
    last_gamma: float = 0.001,
    active_set: bool = True,
    stretch: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """δ ← Π(δ + α·∇margin/‖∇margin‖₂) onto a ball whose radius follows the distance to the decision boundary.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε bounds the perturbation in `norm`: the largest
    change of a pixel ("linf"), the Euclidean length ("l2") or the sum of the absolute changes ("l1"), in pixels of
    [0, 1]. If the shortest success is longer than ε, the image is returned unchanged. With ε = ∞, the shortest success
    is always returned.

    Before the first success, the radius is the length of δ plus the distance to the linearised boundary. Afterwards it
    shrinks by γ after a success and grows by γ after a failure, and it is never larger than the shortest success. One
    thing is ours: before the first success, too, the radius grows at least by γ. Without this, an example whose
    perturbation the box shortens approaches the boundary without end and never crosses it.

    - `first_step`, `last_step`: α, annealed by a cosine, in multiples of the range of a pixel (the authors' values).
    - `gamma`, `last_gamma`: γ, annealed likewise.
    - `active_set`: an example is finished with its first success within ε. It has no effect at ε = ∞.
    - `stretch`: the perturbation is scaled to the length ε, for images that are given to another model.
    - `generator` is unused, because nothing is drawn: the search starts at the clean image.

    Raises UserError for a wrong shape, range, ε or count.
    """
    in_range(steps=(steps, COUNT), first_step=(first_step, POSITIVE), last_step=(last_step, POSITIVE))
    in_range(gamma=(gamma, POSITIVE_SHARE), last_gamma=(last_gamma, POSITIVE_SHARE))
    check_stretch(eps, stretch)
    with searching(model, images, labels, eps, bounds, norm) as (model, batch):
        schedule = _Schedule((first_step, last_step), (gamma, last_gamma), bounds[1] - bounds[0])
        move = partial(_moved, norm=norm, schedule=schedule)
        walk = Walk(steps, 0.0, _climb, move, partial(length, norm=norm), bounds, active_set)
        return shortest_within(walked(model, batch, walk), batch, stretch)


def _climb(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
    """The margin: its gradient does not underflow, so the logarithm of its scale is 0."""
    values = margin(logits, labels)
    return values, torch.zeros_like(values)


def _moved(
    visit: Visit, batch: Batch, progress: float, *, norm: Norm, schedule: _Schedule
) -> tuple[Images, PerExample]:
    """Algorithm 1, lines 5 to 14: the new radius, a step along the gradient, the projection, and the box."""
    gamma, alpha = annealed(*schedule.gamma, progress), annealed(*schedule.alpha, progress)
    change = visit.iterates - batch.images
    boundary = length(change, norm) + plane_distance(visit.values, visit.gradient, DUAL_ORDER[norm])
    larger = visit.radius * (1 + gamma)
    grown = torch.where(visit.shortest < torch.inf, larger, torch.maximum(boundary, larger))
    shrunk = torch.minimum(visit.radius * (1 - gamma), visit.shortest)
    radius = torch.where(visit.fooled, shrunk, grown)
    stepped = change + schedule.pixel * alpha * steepest(visit.gradient, "l2")
    return batch.images + _onto_ball(stepped, radius, norm), radius


def _onto_ball(change: Images, radius: PerExample, norm: Norm) -> Images:
    """The nearest perturbation (in Euclidean distance) that is no longer than the radius of its example."""
    if norm == "linf":
        return change.clamp(-per_image(radius), per_image(radius))
    if norm == "l2":
        tiny = torch.finfo(change.dtype).tiny
        return change * per_image((radius / length(change, "l2").clamp_min(tiny)).clamp_max(1))
    flat = change.flatten(1)
    return onto_l1_ball(flat, torch.full_like(flat, torch.inf), radius).view_as(change)
