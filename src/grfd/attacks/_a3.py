"""A3, an adaptive automated attack: AutoAttack's verdict at a fraction of its passes.

The ideas are those of Adaptive Auto Attack (Liu et al. 2022, arXiv 2203.05154): starting points that push the logits
in a direction, step sizes that fall along a cosine, and passes that are spent where success is near. The schedule, the
starting points and the ranking are ours, and were chosen on training images.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel, logits_of
from grfd.attacks.gradients import Climb, mean_lead, repeat, slope, total
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed, lead
from grfd.attacks.ranges import COUNT, in_range
from grfd.attacks.threat import Batch, Norm, Rows, finished, project, random_point, rows_of, steepest, uniform
from grfd.errors import UserError
from grfd.types import Images, Labels, Logits, PerExample


class Round(NamedTuple):
    """One attempt on a part of the examples that still stand.

    - `share`: which part of them: those that came closest to being misclassified.
    - `steps`: gradients of the ascent.
    - `target`: the class to which the start is pushed, by its rank among the wrong classes of the clean image, the
      likeliest being 0. None: no class, so that the direction is random.
    """

    share: float
    steps: int
    target: int | None


ROUNDS: dict[str, tuple[Round, ...]] = {
    "standard": (
        *(Round(1.0, 20, target) for target in (0, 1, 2)),
        *(Round(0.5, 25, target) for target in (0, 1, 3)),
        *(Round(0.25, 30, target) for target in (2, None, None)),
        *(Round(0.1, 100, target) for target in (0, 1, None)),
    ),
    "quick": (Round(1.0, 15, 0), Round(0.5, 15, 1), Round(0.25, 15, 2)),
}
"""Version → its rounds. An image that stands until the last round of "standard" takes 573 gradients, and one that
stands far from the decision boundary takes 72. Of "quick", these numbers are 57 and 19."""

_START_STEPS = 4
"""Steps of length ε that push a start."""


class _Draws(NamedTuple):
    """What is random: the stream, and the answers of a random model that are averaged."""

    generator: torch.Generator | None
    samples: int


def a3(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    version: str = "standard",
    samples: int = 1,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Rounds of margin ascent from pushed starts, with fewer and nearer examples and more steps from round to round.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length.

    - Start: a random point, then four steps of length ε that raise the logit of a target class, lower that of the
      label, and move all others at random.
    - Ascent: the margin (`losses.margin`), with steps along the steepest direction whose size falls from ε to 0 along
      half a cosine.
    - `version`: a key of `ROUNDS`: "standard", or "quick" for daily work.
    - `samples`: answers of a random model over which each gradient and each lead is averaged.
    - `active_set`: an example leaves at its first success, and later rounds attack only the nearest of those that
      still stand. With False, every round attacks every example, for random models and for transfer.

    Which examples are nearest depends on the other examples of the batch, so the batch is part of what a seed
    reproduces. There may be fewer classes than ranks, even two.
    Raises UserError for a wrong shape, range, ε, norm, version or count.
    """
    in_range(samples=(samples, COUNT))
    if version not in ROUNDS:
        raise UserError(f"{version=}; expected one of {', '.join(ROUNDS)}")
    if norm not in ("linf", "l2"):
        raise UserError(f"{norm=}; expected 'linf' or 'l2'")
    draws = _Draws(generator, samples)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        result, leads, ranking = batch.images.clone(), *_looked_at(model, batch, samples)
        for round_ in ROUNDS[version]:
            rows = _nearest(leads, round_.share) if active_set else remaining(leads, active_set)
            if len(rows) == 0:
                break
            part = rows_of(batch, rows)
            start = _pushed(model, part, _weights(part, ranking[rows], round_.target, generator), draws)
            iterates, reached = _ascend(model, part, start, (round_.steps, samples, active_set))
            keep_better(result, leads, rows, iterates, reached)
        return finished(result, batch)


def _looked_at(model: CheckedModel, batch: Batch, samples: int) -> tuple[PerExample, Labels]:
    """The lead of each clean image, and its wrong classes, the likeliest first: [batch, classes − 1]."""
    if len(batch.images) == 0:
        return batch.images.new_zeros(0), batch.labels[:, None]
    with torch.no_grad():
        logits = logits_of(model, repeat(batch.images, samples).flatten(0, 1))
    leads = lead(logits, batch.labels.repeat(samples)).unflatten(0, (samples, -1)).mean(0)
    mean = logits.unflatten(0, (samples, -1)).mean(0)
    return leads, mean.scatter(1, batch.labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]


def _nearest(leads: PerExample, share: float) -> Rows:
    """The share of the standing examples whose lead is largest, in their order in the batch."""
    standing = remaining(leads, active_set=True)
    count = math.ceil(share * len(standing))
    return standing[leads[standing].topk(count).indices].sort().values


def _weights(batch: Batch, ranking: Labels, target: int | None, generator: torch.Generator | None) -> Logits:
    """The weights of the logits that a start raises: 1 for the target, −1 for the label, uniform for the others."""
    classes = ranking.shape[1] + 1
    weights = uniform(batch.images, (len(batch.labels), classes), -1.0, 1.0, generator)
    if target is not None and ranking.shape[1]:
        chosen = ranking[:, min(target, ranking.shape[1] - 1)]
        weights = weights.scatter(1, chosen[:, None], 1.0)
    return weights.scatter(1, batch.labels[:, None], -1.0)


def _pushed(model: CheckedModel, batch: Batch, weights: Logits, draws: _Draws) -> Images:
    """A start: a random point of the ball, moved to where the weighted sum of the logits is large."""
    samples = draws.samples

    def weighted(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
        values = (weights.repeat(samples, 1) * logits).sum(1)
        return values, torch.zeros_like(values)

    point = random_point(batch, draws.generator)
    for _ in range(_START_STEPS):
        direction, _ = _direction(model, batch, point, weighted, samples)
        point = project(point + batch.eps * direction, batch)
    return point


def _ascend(
    model: CheckedModel, batch: Batch, iterates: Images, settings: tuple[int, int, bool]
) -> tuple[Images, PerExample]:
    """The iterate of the largest lead of each example, and its lead. `settings`: steps, samples, active set."""
    steps, samples, active_set = settings
    kept, best = iterates.clone(), iterates.new_full((len(iterates),), -torch.inf)
    rows = torch.arange(len(iterates), device=iterates.device)
    for step in range(steps):
        direction, leads = _direction(model, batch, iterates, _margin, samples)
        keep_better(kept, best, rows, iterates, leads)
        size = batch.eps * (1 + math.cos(math.pi * step / steps)) / 2
        iterates = project(iterates + size * direction, batch)
        if active_set and (leads >= 0).any():
            alive = remaining(leads, active_set)
            iterates, rows, batch = iterates[alive], rows[alive], rows_of(batch, alive)
            if len(alive) == 0:
                return kept, best
    keep_better(kept, best, rows, iterates, mean_lead(model, iterates, batch.labels, samples))
    return kept, best


def _direction(model: CheckedModel, batch: Batch, points: Images, climb: Climb, samples: int) -> tuple[Images, Tensor]:
    """The steepest unit step of a loss at each point, and the lead there."""
    evaluated = slope(model, repeat(points, samples), batch.labels, climb)
    return steepest(total(evaluated.gradient, evaluated.log_scale)[0], batch.norm), evaluated.lead.mean(0)


def _margin(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
    return climbed("margin", logits, labels)
