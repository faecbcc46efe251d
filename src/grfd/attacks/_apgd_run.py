"""The course of one run of Auto-PGD (Croce & Hein 2020, arXiv 2003.01690, algorithm 1)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.threat import Batch, Rows, length, normal, per_image, project, rows_of, steepest, uniform
from grfd.types import Images, Labels, PerExample

_MOMENTUM = 0.75
"""α of algorithm 1: the weight of the new step. The previous move has the weight 1 − α."""

_RISING = 0.75
"""ρ: the step size is halved if fewer than this share of the steps since the last checkpoint increased the loss."""

GradientAt = Callable[[Images, Labels, Labels], tuple[Images, PerExample, PerExample]]
"""(iterates, labels, targets) -> (gradient, value, lead)."""


class Course(NamedTuple):
    """The settings of a run: its length, the iterate that is kept, and the random stream of its starting points."""

    steps: int
    keep: str
    active_set: bool
    generator: torch.Generator | None


class _Search(NamedTuple):
    """One row for each example that is still attacked. To drop an example, every field is indexed once."""

    rows: Rows
    iterates: Images
    previous: Images
    gradient: Images
    value: PerExample
    top: Images
    top_gradient: Images
    top_value: PerExample
    checked_value: PerExample
    step_size: PerExample
    rises: PerExample
    halved: Tensor


def run_with_momentum(
    gradient_at: GradientAt, batch: Batch, targets: Labels, course: Course
) -> tuple[Images, PerExample]:
    """One run. Returns the iterate that is kept for each example, and its lead."""
    search, kept_lead = _start(gradient_at, batch, targets, course.generator)
    kept, last_check, checks = search.iterates.clone(), 0, checkpoints(course.steps)
    for step in range(1, course.steps + 1):
        if course.active_set:
            alive = remaining(kept_lead[search.rows], True)
            if len(alive) < len(search.rows):
                search = _Search(*(tensor[alive] for tensor in search))
                batch, targets = rows_of(batch, alive), targets[alive]
        if len(search.rows) == 0:
            break
        search, leads = _step(gradient_at, search, batch, targets, 1.0 if step == 1 else _MOMENTUM)
        if course.keep == "last":
            kept_lead[search.rows] = torch.where(leads >= 0, -torch.inf, kept_lead[search.rows])
        keep_better(kept, kept_lead, search.rows, search.iterates, leads)
        if step in checks:
            search, last_check = _adapt(search, step - last_check), step
    return kept, kept_lead


def _start(
    gradient_at: GradientAt, batch: Batch, targets: Labels, generator: torch.Generator | None
) -> tuple[_Search, PerExample]:
    shape = tuple(batch.images.shape)
    if batch.norm == "linf":
        noise = uniform(batch.images, shape, -1.0, 1.0, generator)
    else:
        noise = normal(batch.images, shape, generator)
    start = project(batch.images + batch.eps * noise / per_image(length(noise, batch.norm)), batch)
    gradient, value, leads = gradient_at(start, batch.labels, targets)
    search = _Search(
        rows=torch.arange(len(start), device=start.device),
        iterates=start,
        previous=start,
        gradient=gradient,
        value=value,
        top=start,
        top_gradient=gradient,
        top_value=value,
        checked_value=value,
        step_size=torch.full_like(value, 2 * batch.eps),
        rises=torch.zeros_like(value),
        halved=torch.zeros_like(value, dtype=torch.bool),
    )
    return search, leads


def _step(
    gradient_at: GradientAt, search: _Search, batch: Batch, targets: Labels, share: float
) -> tuple[_Search, PerExample]:
    """Algorithm 1, lines 7 to 10."""
    aim = project(search.iterates + per_image(search.step_size) * steepest(search.gradient, batch.norm), batch)
    move = share * (aim - search.iterates) + (1 - share) * (search.iterates - search.previous)
    iterates = project(search.iterates + move, batch)
    gradient, value, leads = gradient_at(iterates, batch.labels, targets)
    higher = value > search.top_value
    return search._replace(
        iterates=iterates,
        previous=search.iterates,
        gradient=gradient,
        value=value,
        top=torch.where(per_image(higher), iterates, search.top),
        top_gradient=torch.where(per_image(higher), gradient, search.top_gradient),
        top_value=torch.where(higher, value, search.top_value),
        rises=search.rises + (value > search.value),
    ), leads


def _adapt(search: _Search, span: int) -> _Search:
    """At a checkpoint: condition 1 or 2 of section 3.1 halves the step size and returns to the best point so far."""
    stalled = ~search.halved & (search.top_value == search.checked_value)
    halve = (search.rises < _RISING * span) | stalled
    return search._replace(
        step_size=torch.where(halve, search.step_size / 2, search.step_size),
        iterates=torch.where(per_image(halve), search.top, search.iterates),
        gradient=torch.where(per_image(halve), search.top_gradient, search.gradient),
        checked_value=search.top_value,
        rises=torch.zeros_like(search.rises),
        halved=halve,
    )


def checkpoints(steps: int) -> list[int]:
    """w_j = ⌈p_j·steps⌉ with p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06), p_1 = 0.22 (section 3.1)."""
    percent, width, steps_to_check = 22, 22, []
    # In whole per cent, because 0.57·100 is 56.99… in floating point.
    while percent < 100:
        steps_to_check.append(-(-percent * steps // 100))
        width = max(width - 3, 6)
        percent += width
    return sorted(set(steps_to_check))
