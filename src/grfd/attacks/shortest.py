"""The search for smallest perturbations: the shortest success of each example so far, and what is returned of it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.active_set import PerRow, RowImages, remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import Climb, mean_lead, slope
from grfd.attacks.threat import Batch, Rows, finished, per_image, rows_of, stretched
from grfd.types import Images, PerExample


class Shortest(NamedTuple):
    """The shortest adversarial example of each image so far, and the length of its perturbation (∞ without one)."""

    images: Images
    lengths: PerExample


class Visit(NamedTuple):
    """What is known at one iterate: the ball's radius, whether the model is fooled, the loss, and the shortest success.

    All are rows of the batch. `values` and `gradient` are those of the loss that is climbed.
    """

    iterates: Images
    radius: PerExample
    fooled: Tensor
    values: PerExample
    gradient: Images
    shortest: PerExample


Move = Callable[[Visit, Batch, float], tuple[Images, PerExample]]
"""(visit, batch, progress from 0 to 1) -> (next iterates, which are then clamped to the box, and next radius)."""


class Walk(NamedTuple):
    """A search in balls whose radius follows from success and failure: what is climbed, moved and measured."""

    steps: int
    first_radius: float
    climb: Climb
    move: Move
    measure: Callable[[Images], PerExample]
    bounds: tuple[float, float]
    active_set: bool


def walked(model: CheckedModel, batch: Batch, walk: Walk) -> Shortest:
    """The shortest success among the clean images and the `steps` iterates after them.

    With `active_set` and a finite ε, an example is finished with its first success within ε.
    """
    shortest, rows = before_search(model, batch)
    batch = rows_of(batch, rows)
    iterates, radius = batch.images, batch.images.new_full((len(rows),), walk.first_radius)
    for step in range(walk.steps):
        if (alive := unfinished(shortest.lengths[rows], batch, walk.active_set)) is not None:
            rows, iterates, radius, batch = rows[alive], iterates[alive], radius[alive], rows_of(batch, alive)
        if len(rows) == 0:
            return shortest
        slopes = slope(model, iterates[None], batch.labels, walk.climb)
        fooled = slopes.lead[0] >= 0
        keep_shorter(shortest, rows, iterates, fooled, walk.measure(iterates - batch.images))
        visit = Visit(iterates, radius, fooled, slopes.values[0], slopes.gradient[0], shortest.lengths[rows])
        iterates, radius = walk.move(visit, batch, step / walk.steps)
        iterates = iterates.clamp(*walk.bounds)
    fooled = mean_lead(model, iterates, batch.labels) >= 0
    keep_shorter(shortest, rows, iterates, fooled, walk.measure(iterates - batch.images))
    return shortest


def before_search(model: CheckedModel, batch: Batch) -> tuple[Shortest, Rows]:
    """What is known of the clean images, and which of them to attack. A misclassified one needs no perturbation."""
    leads = mean_lead(model, batch.images, batch.labels)
    lengths = torch.where(leads >= 0, 0.0, torch.inf).to(leads)
    return Shortest(batch.images.clone(), lengths), remaining(leads, True)


def keep_shorter(shortest: Shortest, rows: Rows, candidates: RowImages, fooled: Tensor, lengths: PerRow) -> None:
    """Copies the candidates that fool the model with a shorter perturbation to these rows of `shortest`."""
    shorter = fooled & (lengths < shortest.lengths[rows])
    shortest.images[rows] = torch.where(per_image(shorter), candidates, shortest.images[rows])
    shortest.lengths[rows] = torch.where(shorter, lengths, shortest.lengths[rows])


def unfinished(lengths: PerRow, batch: Batch, active_set: bool) -> Rows | None:
    """Indices of the rows that have no success within ε, or None where all go on: without `active_set`, or at ε = ∞."""
    if not active_set or batch.eps == math.inf:
        return None
    alive = (lengths > batch.eps).nonzero().squeeze(1)
    return None if len(alive) == len(lengths) else alive


def shortest_within(shortest: Shortest, batch: Batch, stretch: bool) -> Images:
    """The images to return: the shortest success if it is no longer than ε, else the clean image.

    With `stretch`, every success is scaled to the length ε instead.
    """
    if stretch:
        return finished(stretched(shortest.images, batch), batch)
    kept = shortest.images.clamp(batch.lower, batch.upper)
    return finished(torch.where(per_image(shortest.lengths <= batch.eps), kept, batch.images), batch)


def plane_distance(values: Tensor, gradient: Tensor, order: float) -> Tensor:
    """|value| ÷ ‖gradient‖, the distance to the zero of the linearised function: values [...], gradient [..., c, h, w].

    `order`: the order of the dual norm: 1 for L∞, 2 for L2, ∞ for L1. Where the gradient is zero, the distance is the
    largest float. The gradient is divided by its largest entry first, because the squares of a tiny one underflow.
    """
    flat, limits = gradient.flatten(-3), torch.finfo(gradient.dtype)
    largest = flat.abs().amax(-1)
    scale = largest.clamp_min(limits.tiny)
    dual = torch.linalg.vector_norm(flat / scale[..., None], ord=order, dim=-1)
    distances = values.abs() / scale / dual.clamp_min(limits.tiny)
    return torch.where(largest > 0, distances.clamp_max(limits.max), limits.max)


def annealed(first: float, last: float, progress: float) -> float:
    """Cosine annealing from `first` at progress 0 to `last` at progress 1."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
