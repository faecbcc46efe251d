"""SimBA (Guo et al. 2019, arXiv 1905.07121, algorithm 1): one orthonormal direction after the other, forth or back."""

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import mean_lead
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.ranges import COUNT, POSITIVE, POSITIVE_SHARE, in_range
from grfd.attacks.threat import Batch, Rows, finished, length, uniform
from grfd.errors import UserError
from grfd.types import Images, Labels, PerExample

_BASES = ("pixel", "dct")


class SimbaSettings(NamedTuple):
    """The settings of a search, as `simba` describes them."""

    queries: int
    step: float
    directions: Tensor | None
    """The orthonormal directions [number, pixels]; None: one pixel of one channel each, which need no memory."""
    active_set: bool
    bounds: tuple[float, float]
    generator: torch.Generator | None
    samples: int = 1


def simba(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    n_queries: int = 5000,
    step: float = 0.2,
    basis: str = "pixel",
    frequencies: float = 0.5,
    samples: int = 1,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """x + step·q, or x − step·q, for the directions q of a basis in random order, kept where the margin falls.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε bounds the Euclidean length of the change, in
    pixels of [0, 1]: what would exceed it is not tried. The score is the margin between the label and the likeliest
    other class. The paper's is the label's probability, which rounds to 1 where a model is certain.

    - `n_queries`: images that are classified for each example, the clean one included. A direction whose first sign
      succeeds costs one query, and an image outside the ball none.
    - `step`: the length of a step, in pixels (the paper's 0.2).
    - `basis`: "pixel", one pixel of one channel, or "dct", a cosine wave; of each side the share `frequencies` of the
      lowest ones. Every example has an order of its own; after the last direction it begins again,
      until a turn of all directions brings no step.
    - `samples`: answers of a random model over which each query is averaged; `n_queries` counts averages.
    - `active_set`: an example leaves at its first success.

    Raises UserError for a wrong shape, range, ε or count, and for an unknown basis.
    """
    in_range(n_queries=(n_queries, COUNT), samples=(samples, COUNT))
    in_range(step=(step, POSITIVE), frequencies=(frequencies, POSITIVE_SHARE))
    if basis not in _BASES:
        raise UserError(f"{basis=}; expected one of {', '.join(_BASES)}")
    with attacking(model, images, labels, eps, bounds, "l2") as (model, batch):
        directions = None if basis == "pixel" else cosine_directions(batch.images, frequencies)
        settings = SimbaSettings(n_queries, step, directions, active_set, bounds, generator, samples)
        _, result, _ = deque(simba_rounds(model, batch, settings), maxlen=1).pop()
        return finished(result, batch)


def simba_rounds(
    model: CheckedModel, batch: Batch, settings: SimbaSettings
) -> Iterator[tuple[Tensor, Images, PerExample]]:
    """(queries of each example so far, images, their leads) after each direction. All are updated in place."""
    result, leads = batch.images.clone(), mean_lead(model, batch.images, batch.labels, settings.samples)
    rows = remaining(leads, settings.active_set)
    spent, idle = torch.ones_like(batch.labels), torch.zeros_like(batch.labels)
    rows = rows[spent[rows] < settings.queries]
    yield spent, result, leads
    number = math.prod(batch.images.shape[1:]) if settings.directions is None else len(settings.directions)
    order = _orders(len(batch.images), number, batch.images, settings.generator)
    turn = 0
    while len(rows):
        direction = _chosen(settings.directions, order[rows, turn % order.shape[1]], batch.images[rows])
        kept = torch.zeros_like(rows, dtype=torch.bool)
        for sign in (1.0, -1.0):
            tried = (result[rows] + sign * settings.step * direction).clamp(*settings.bounds)
            waiting = (_worth(tried, result, rows, batch) & ~kept & (spent[rows] < settings.queries)).nonzero()[:, 0]
            here, tried = rows[waiting], tried[waiting]
            found = mean_lead(model, tried, batch.labels[here], settings.samples)
            spent[here] += 1
            kept[waiting] = found > leads[here]
            keep_better(result, leads, here, tried, found)
        turn += 1
        # After a turn of all directions without a step, the next turn would try the same images again.
        idle[rows] = torch.where(kept, 0, idle[rows] + 1)
        going = (spent[rows] < settings.queries) & (idle[rows] < order.shape[1])
        rows = rows[going & (leads[rows] < 0)] if settings.active_set else rows[going]
        yield spent, result, leads


def _worth(tried: Images, result: Images, rows: Rows, batch: Batch) -> Tensor:
    """Which candidates are worth a query: those inside the ball that the box leaves a change."""
    inside = length(tried - batch.images[rows], "l2") <= batch.eps
    return inside & (tried != result[rows]).flatten(1).any(1)


def _chosen(directions: Tensor | None, index: Tensor, images: Images) -> Images:
    """The direction of each example, in the shape of its image."""
    if directions is not None:
        return directions[index].view_as(images)
    return torch.zeros_like(images).flatten(1).scatter(1, index[:, None], 1.0).view_as(images)


def _orders(count: int, directions: int, like: Images, generator: torch.Generator | None) -> Tensor:
    """A random order of the directions for each example: [count, directions]."""
    return uniform(like, (count, directions), 0.0, 1.0, generator).argsort(1)


def cosine_directions(images: Images, frequencies: float) -> Tensor:
    """Cosine waves of each channel, orthonormal: [number, pixels]."""
    channels, height, width = images.shape[1:]
    rows, columns = (_cosines(side, max(round(frequencies * side), 1), images) for side in (height, width))
    waves = torch.einsum("ah,bw->abhw", rows, columns).flatten(0, 1)
    planes = torch.eye(channels, dtype=images.dtype, device=images.device)
    return torch.einsum("cd,nhw->cndhw", planes, waves).flatten(0, 1).flatten(1)


def _cosines(side: int, count: int, like: Images) -> Tensor:
    """The `count` lowest vectors of the discrete cosine transform (type 2), orthonormal: [count, side]."""
    places = torch.arange(side, dtype=like.dtype, device=like.device) + 0.5
    waves = torch.cos(math.pi / side * torch.arange(count, dtype=like.dtype, device=like.device)[:, None] * places)
    waves[0] /= math.sqrt(2)
    return waves * math.sqrt(2 / side)
