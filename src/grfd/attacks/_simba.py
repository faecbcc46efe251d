"""SimBA (Guo et al. 2019, arXiv 1905.07121, algorithm 1): one orthonormal direction after the other, forth or back."""

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.active_set import remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import mean_lead
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.ranges import COUNT, POSITIVE, POSITIVE_SHARE, in_range
from grfd.attacks.threat import Batch, finished, length, per_image, uniform
from grfd.errors import UserError
from grfd.types import Images, Labels, PerExample

_BASES = ("pixel", "dct")


class SimbaSettings(NamedTuple):
    """The settings of a search, as `simba` describes them."""

    queries: int
    step: float
    directions: Tensor
    active_set: bool
    bounds: tuple[float, float]
    generator: torch.Generator | None


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
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """x + step·q, or x − step·q, for the directions q of a basis in random order, kept where the margin falls.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε bounds the Euclidean length of the change, in
    pixels of [0, 1]: what would exceed it is not kept. The model's score is its margin, which falls exactly where the
    probability of the label does.

    - `n_queries`: images that are classified for each example, the clean one included.
    - `step`: the length of a step, in pixels (the paper's 0.2).
    - `basis`: "pixel", one pixel of one channel, or "dct", a cosine wave; of each side the share `frequencies` of the
      lowest ones. Every example has an order of its own; after the last direction it begins again.
    - `active_set`: an example leaves at its first success.

    Raises UserError for a wrong shape, range, ε or count, and for an unknown basis.
    """
    in_range(n_queries=(n_queries, COUNT), step=(step, POSITIVE), frequencies=(frequencies, POSITIVE_SHARE))
    if basis not in _BASES:
        raise UserError(f"{basis=}; expected one of {', '.join(_BASES)}")
    with attacking(model, images, labels, eps, bounds, "l2") as (model, batch):
        directions = simba_directions(batch.images, basis, frequencies)
        settings = SimbaSettings(n_queries, step, directions, active_set, bounds, generator)
        _, result, _ = deque(simba_rounds(model, batch, settings), maxlen=1).pop()
        return finished(result, batch)


def simba_rounds(
    model: CheckedModel, batch: Batch, settings: SimbaSettings
) -> Iterator[tuple[int, Images, PerExample]]:
    """(the most queries of an example so far, images, their leads) after each direction."""
    result, leads = batch.images.clone(), mean_lead(model, batch.images, batch.labels)
    rows = remaining(leads, settings.active_set)
    spent = 1
    yield spent, result, leads
    order = _orders(len(batch.images), len(settings.directions), batch.images, settings.generator)
    turn = 0
    while len(rows) and spent + 2 <= settings.queries:
        direction = settings.directions[order[rows, turn % order.shape[1]]].view(len(rows), *batch.images.shape[1:])
        better = torch.zeros_like(rows, dtype=torch.bool)
        for sign in (1.0, -1.0):
            waiting = (~better).nonzero().squeeze(1)
            if len(waiting) == 0:
                break
            here = rows[waiting]
            tried = (result[here] + sign * settings.step * direction[waiting]).clamp(*settings.bounds)
            found = mean_lead(model, tried, batch.labels[here])
            inside = length(tried - batch.images[here], "l2") <= batch.eps
            take = (found > leads[here]) & inside
            result[here] = torch.where(per_image(take), tried, result[here])
            leads[here] = torch.where(take, found, leads[here])
            better[waiting] = take
        spent += 2
        turn += 1
        if settings.active_set:
            rows = rows[leads[rows] < 0]
        yield spent, result, leads


def _orders(count: int, directions: int, like: Images, generator: torch.Generator | None) -> Tensor:
    """A random order of the directions for each example: [count, directions]."""
    return uniform(like, (count, directions), 0.0, 1.0, generator).argsort(1)


def simba_directions(images: Images, basis: str, frequencies: float) -> Tensor:
    """The orthonormal directions [number, pixels]."""
    channels, height, width = images.shape[1:]
    if basis == "pixel":
        return torch.eye(channels * height * width, dtype=images.dtype, device=images.device)
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
