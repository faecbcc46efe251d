"""HopSkipJump (Chen et al. 2020, arXiv 1904.02144, algorithms 1 and 2): a search that sees only predicted classes."""

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import mean_lead
from grfd.attacks.inputs import Model, check_stretch, searching
from grfd.attacks.ranges import COUNT, in_range
from grfd.attacks.shortest import Shortest, before_search, keep_shorter, shortest_within
from grfd.attacks.threat import Batch, Norm, Rows, length, normal, per_image, rows_of, uniform
from grfd.errors import UserError
from grfd.types import Images, Labels, PerExample

_STARTS = 25
"""Images of uniform noise that are tried as a start."""
_HALVINGS = 12
"""Halvings of the step before it is given up."""
_AT_ONCE = 2_000
"""Images that are classified in one call while a gradient is estimated."""


class HopSkipJumpSettings(NamedTuple):
    """The settings of a search, as `hopskipjump` describes them."""

    queries: int
    draws: int
    active_set: bool
    bounds: tuple[float, float]
    generator: torch.Generator | None


class _Walk(NamedTuple):
    """The examples that are still searched: their rows, adversarial images, and queries so far.

    `distance`: that from the clean image before the last search for the boundary.
    """

    rows: Rows
    edge: Images
    distance: PerExample
    spent: Tensor


def hopskipjump(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    n_queries: int = 5000,
    draws: int = 100,
    active_set: bool = True,
    stretch: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "l2",
    generator: torch.Generator | None = None,
) -> Images:
    """The nearest misclassified image: from one far away along the decision boundary towards the clean image.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1] in `norm`, "l2" or "linf".
    A binary search between the clean image and an adversarial one finds the boundary (algorithm 1). In each round, the
    answers to random steps around it estimate its normal (eq. 9, 12), a step along the normal is halved until it is
    adversarial, and a binary search returns to the boundary. If the nearest image found is farther than ε, the clean
    image is returned. With ε = ∞ the nearest is always returned.

    - `n_queries`: images that are classified for each example, the clean one and the search for a start included.
    - `draws`: random steps of the first round; round t has √t times as many.
    - The start is uniform noise that is misclassified or, if there is none, another image of the batch with another
      prediction. An image without a start stays as it is.
    - `active_set`: an example is finished with its first success within ε.
    - `stretch`: the perturbation is scaled to the length ε, for images that are given to another model.

    Raises UserError for a wrong shape, range, ε, norm or count.
    """
    if norm not in ("linf", "l2"):
        raise UserError(f"{norm=}; expected 'linf' or 'l2'")
    in_range(n_queries=(n_queries, COUNT), draws=(draws, COUNT))
    check_stretch(eps, stretch)
    settings = HopSkipJumpSettings(n_queries, draws, active_set, bounds, generator)
    with searching(model, images, labels, eps, bounds, norm) as (model, batch):
        _, shortest = deque(hopskipjump_rounds(model, batch, settings), maxlen=1).pop()
        return shortest_within(shortest, batch, stretch)


def hopskipjump_rounds(
    model: CheckedModel, batch: Batch, settings: HopSkipJumpSettings
) -> Iterator[tuple[Tensor, Shortest]]:
    """(queries of each example so far, the nearest adversarial images so far) after each arrival at the boundary.

    Both are updated in place. The first two are those before the search and with the starts.
    """
    shortest, rows = before_search(model, batch)
    spent = torch.ones_like(batch.labels)
    yield spent, shortest
    walk = _started(model, batch, rows, settings)
    keep_shorter(shortest, walk.rows, walk.edge, _true(walk), walk.distance)
    spent[walk.rows] = walk.spent
    yield spent, shortest
    steps = math.ceil(math.log2(1 / _tolerance(batch)))
    walk = _still(walk, walk.spent + steps <= settings.queries, shortest, batch, settings)
    number = 0
    while len(walk.rows):
        # Every round ends at the boundary, so that no query of its last step is wasted.
        edge = _to_boundary(model, rows_of(batch, walk.rows), walk.edge, steps)
        walk = walk._replace(edge=edge, spent=walk.spent + steps)
        keep_shorter(shortest, walk.rows, edge, _true(walk), _lengths(edge, batch, walk.rows))
        spent[walk.rows] = walk.spent
        yield spent, shortest
        number += 1
        draws = round(settings.draws * number**0.5)
        affordable = walk.spent + draws + _HALVINGS + steps <= settings.queries
        walk = _still(walk, affordable, shortest, batch, settings)
        if len(walk.rows):
            walk = _along_normal(model, batch, walk, (draws, number), settings)


def _along_normal(
    model: CheckedModel, batch: Batch, walk: _Walk, turn: tuple[int, int], settings: HopSkipJumpSettings
) -> _Walk:
    """A step along the normal that is estimated from random steps. `turn`: their number, and that of the round."""
    draws, number = turn
    part = rows_of(batch, walk.rows)
    radius = _radius(walk.distance, _tolerance(batch), part)
    direction = _estimated_normal(model, part, walk.edge, radius, (draws, settings))
    edge, halvings = _stepped(model, part, walk.edge, direction, number, settings.bounds)
    return _Walk(walk.rows, edge, _lengths(edge, batch, walk.rows), walk.spent + draws + halvings)


def _true(walk: _Walk) -> Tensor:
    return torch.ones_like(walk.rows, dtype=torch.bool)


def _lengths(images: Images, batch: Batch, rows: Rows) -> PerExample:
    return length(images - batch.images[rows], batch.norm)


def _tolerance(batch: Batch) -> float:
    """θ of the binary search: d^(−3/2) in L2 and d^(−2) in L∞, for d pixels."""
    pixels = math.prod(batch.images.shape[1:])
    return float(pixels**-1.5 if batch.norm == "l2" else pixels**-2.0)


def _radius(distance: PerExample, tolerance: float, batch: Batch) -> PerExample:
    """δ of the random steps: √d·θ times the distance in L2, d·θ times it in L∞."""
    pixels = batch.images[0].numel()
    return distance * tolerance * (pixels**0.5 if batch.norm == "l2" else pixels)


def _still(walk: _Walk, affordable: Tensor, shortest: Shortest, batch: Batch, settings: HopSkipJumpSettings) -> _Walk:
    """The examples that can pay for another round and have no success within ε."""
    going = affordable
    if settings.active_set and math.isfinite(batch.eps):
        going = going & (shortest.lengths[walk.rows] > batch.eps)
    return _Walk(*(column[going] for column in walk))


def _started(model: CheckedModel, batch: Batch, rows: Rows, settings: HopSkipJumpSettings) -> _Walk:
    """An adversarial image for each row that has one: uniform noise, else an image with another prediction."""
    images, labels = batch.images[rows], batch.labels[rows]
    start, found = images.clone(), torch.zeros_like(rows, dtype=torch.bool)
    spent = torch.ones_like(rows)
    for _ in range(min(_STARTS, settings.queries - 1)):
        waiting = (~found).nonzero().squeeze(1)
        if len(waiting) == 0:
            break
        shape = tuple(images[waiting].shape)
        noise = uniform(images, shape, *settings.bounds, settings.generator)
        fooled = mean_lead(model, noise, labels[waiting]) >= 0
        start[waiting] = torch.where(per_image(fooled), noise, start[waiting])
        found[waiting] = fooled
        spent[waiting] += 1
    for row in (~found).nonzero().squeeze(1).tolist():
        other = (batch.labels != labels[row]).nonzero().squeeze(1)
        candidates = other[: max(min(10, settings.queries - int(spent[row])), 0)]
        if len(candidates) == 0:
            continue
        fooled = mean_lead(model, batch.images[candidates], labels[row].repeat(len(candidates))) >= 0
        spent[row] += len(candidates)
        if fooled.any():
            start[row], found[row] = batch.images[candidates[fooled.nonzero()[0, 0]]], True
    return _Walk(rows[found], start[found], _lengths(start[found], batch, rows[found]), spent[found])


def _to_boundary(model: CheckedModel, batch: Batch, far: Images, steps: int) -> Images:
    """Algorithm 1: bisection between the clean image and an adversarial one. The result is adversarial."""
    change = far - batch.images
    reach = length(change, "linf")
    low, high = torch.zeros_like(reach), torch.ones_like(reach)
    for _ in range(steps):
        middle = (low + high) / 2
        fooled = mean_lead(model, _between(batch, change, middle, reach), batch.labels) >= 0
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    # Rounding could carry the far end itself across the boundary.
    return torch.where(per_image(high == 1), far, _between(batch, change, high, reach))


def _between(batch: Batch, change: Images, share: PerExample, reach: PerExample) -> Images:
    """The point at a share of the way. In L∞ it is the far image, clamped to a cube of that share."""
    if batch.norm == "linf":
        limit = per_image(share * reach)
        return batch.images + change.minimum(limit).maximum(-limit)
    return batch.images + per_image(share) * change


def _estimated_normal(
    model: CheckedModel, batch: Batch, edge: Images, radius: PerExample, how: tuple[int, HopSkipJumpSettings]
) -> Images:
    """The mean of the random directions, each with the sign of its answer less the mean sign (eq. 12)."""
    draws, settings = how
    size = max(_AT_ONCE // max(len(edge), 1), 1)
    signed, plain, signs = torch.zeros_like(edge), torch.zeros_like(edge), torch.zeros(len(edge), device=edge.device)
    done = 0
    while done < draws:
        count = min(size, draws - done)
        shape = (count, *edge.shape)
        if batch.norm == "l2":
            noise = normal(edge, shape, settings.generator)
        else:
            noise = uniform(edge, shape, -1.0, 1.0, settings.generator)
        noise = noise / noise.flatten(2).norm(dim=2)[..., None, None, None]
        points = (edge + radius[:, None, None, None] * noise).clamp(*settings.bounds)
        noise = (points - edge) / radius.clamp_min(1e-20)[:, None, None, None]  # what the box left of it
        answers = mean_lead(model, points.flatten(0, 1), batch.labels.repeat(count)) >= 0
        sign = torch.where(answers, 1.0, -1.0).unflatten(0, (count, -1)).to(edge)
        signed += (sign[..., None, None, None] * noise).sum(0)
        plain += noise.sum(0)
        signs += sign.sum(0)
        done += count
    mean = signs / draws
    direction = signed - per_image(mean) * plain
    # where all answers agree, the mean direction itself says where that class lies
    direction = torch.where(per_image(mean.abs() == 1), per_image(mean) * plain, direction)
    if batch.norm == "linf":
        return direction.sign()
    return direction / per_image(length(direction, "l2").clamp_min(torch.finfo(edge.dtype).tiny))


def _stepped(
    model: CheckedModel, batch: Batch, edge: Images, direction: Images, number: int, bounds: tuple[float, float]
) -> tuple[Images, Tensor]:
    """A step of distance ÷ √t along the normal, halved until it is adversarial, and the queries of each example."""
    size = length(edge - batch.images, batch.norm) / number**0.5
    result, waiting = edge.clone(), torch.arange(len(edge), device=edge.device)
    spent = torch.zeros_like(waiting)
    for _ in range(_HALVINGS):
        points = (edge[waiting] + per_image(size[waiting]) * direction[waiting]).clamp(*bounds)
        fooled = mean_lead(model, points, batch.labels[waiting]) >= 0
        spent[waiting] += 1
        result[waiting[fooled]] = points[fooled]
        size[waiting] /= 2
        waiting = waiting[~fooled]
        if len(waiting) == 0:
            break
    return result, spent
