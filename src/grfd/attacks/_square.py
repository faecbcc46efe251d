"""Square attack (Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 1 to 3): random search, no gradients."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks._square_windows import move_window, random_signs, start_on_grid
from grfd.attacks.active_set import remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import mean_lead
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.ranges import COUNT, POSITIVE_SHARE, in_range
from grfd.attacks.threat import Batch, Norm, finished, per_image, rows_of, uniform
from grfd.types import Images, Labels, PerExample

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""The share p of changed pixels is halved after each of these numbers of queries, of 10,000 (section 5)."""


def square(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    n_queries: int = 5000,
    p_init: float = 0.8,
    rescale: bool | None = None,
    samples: int = 1,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Vertical stripes of ±ε, then squares of ±ε per channel at random places, kept where the margin loss improves.

    With `norm` "l2" or "l1": first a grid of bumps whose total length is at most ε, then the perturbation's length is
    moved from window to window (`_square_windows`).

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length, or with "l1" a sum of absolute changes. Every example has its own random places.

    - `n_queries`: perturbed images that are tried for each example. The query of the clean image is not counted.
    - `samples`: answers of a random model over which each query is averaged. A lucky answer stalls the search, and only
      many samples help. On a small network with noise, 300 queries left 78 % at 1 sample, 63 % at 8 and 25 % at 64.
    - `p_init`: the share of pixels that the first squares cover.
    - `rescale`: whether the schedule of p, which is for 10,000 queries, is rescaled to `n_queries` (`resc_schedule` of
      the original, where AutoAttack has False). None: it is, except in L1, where large windows succeed more often. With
      600 queries in L1, a LeNet5 kept 79 % under the original schedule, and 89 % under the rescaled one.
    - `active_set`: an example leaves at its first success. Pass False for a random model (see `pgd`).

    Raises UserError for a wrong shape, range, ε or count.
    """
    rescaled = norm != "l1" if rescale is None else rescale
    settings = SquareSettings(n_queries, p_init, rescaled, samples, active_set, generator)
    in_range(n_queries=(n_queries, COUNT), samples=(samples, COUNT), p_init=(p_init, POSITIVE_SHARE))
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        clean = mean_lead(model, batch.images, batch.labels, samples)
        _, result, leads = deque(square_rounds(model, batch, clean, settings), maxlen=1).pop()
        return finished(torch.where(per_image(leads > clean), result, batch.images), batch)


class SquareSettings(NamedTuple):
    """The settings of a search, as `square` describes them."""

    queries: int
    p_init: float
    rescale: bool
    samples: int
    active_set: bool
    generator: torch.Generator | None


def square_rounds(
    model: CheckedModel, batch: Batch, clean: PerExample, settings: SquareSettings
) -> Iterator[tuple[int, Images, PerExample]]:
    """(queries of an example so far, images, their leads) after each query. `clean`: the leads of the clean images.

    With an active set, images and leads are up to date for the examples that are finished.
    """
    rows = remaining(clean, settings.active_set)
    # The search starts at −∞, so that its first points, the stripes, need not be better than the clean image.
    result, leads = batch.images.clone(), torch.full_like(clean, -torch.inf)
    yield 0, result, leads
    part, current, best = rows_of(batch, rows), result[rows], leads[rows]
    for query in range(settings.queries):
        if len(rows) == 0:
            break
        progress = query / (settings.queries if settings.rescale else 10_000)
        propose = _try if batch.norm == "linf" else _try_windows
        tried = propose(query == 0, progress, settings.p_init, current, part, settings.generator)
        tried_leads = mean_lead(model, tried, part.labels, settings.samples)
        better = tried_leads > best
        current, best = torch.where(per_image(better), tried, current), torch.where(better, tried_leads, best)
        # Rows are gathered again only when some example was fooled.
        standing = remaining(best, settings.active_set)
        if len(standing) < len(rows) or query == settings.queries - 1:
            result[rows], leads[rows] = current, best
            rows, current, best = rows[standing], current[standing], best[standing]
            part = rows_of(batch, rows)
        yield query + 1, result, leads


def _try(
    first: bool, progress: float, p_init: float, current: Images, batch: Batch, generator: torch.Generator | None
) -> Images:
    signs = _stripes(current, generator) if first else _squares(current, _side(progress, p_init, current), generator)
    return torch.where(signs > 0, batch.upper, torch.where(signs < 0, batch.lower, current))


def _try_windows(
    first: bool, progress: float, p_init: float, current: Images, batch: Batch, generator: torch.Generator | None
) -> Images:
    if first:
        return start_on_grid(batch, generator)
    return move_window(current, batch, _side(progress, p_init, current), generator)


def _side(progress: float, p_init: float, images: Images) -> int:
    """The side of the square at this share of the queries."""
    p = p_init / 2 ** sum(progress * 10_000 > halving for halving in _HALVINGS)
    height, width = images.shape[2:]
    return min(max(round((p * height * width) ** 0.5), 1), height, width)


def _stripes(images: Images, generator: torch.Generator | None) -> Tensor:
    """±1, one draw for each column and channel."""
    batch, channels, _, width = images.shape
    return random_signs(images, (batch, channels, 1, width), generator)


def _squares(images: Images, side: int, generator: torch.Generator | None) -> Tensor:
    """±1, one draw for each channel, inside a square at a uniformly drawn place, and 0 outside it."""
    batch, channels, height, width = images.shape
    places = uniform(images, (2, batch, 1, 1, 1), 0.0, 1.0, generator)
    # Rounding can carry a draw below 1 past the last place.
    top = (places[0] * (height - side + 1)).long().clamp_max(height - side)
    left = (places[1] * (width - side + 1)).long().clamp_max(width - side)
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return inside * random_signs(images, (batch, channels, 1, 1), generator)
