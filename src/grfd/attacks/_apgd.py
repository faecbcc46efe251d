"""Auto-PGD (Croce & Hein 2020, arXiv 2003.01690, algorithm 1): PGD that halves its own step size."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import Climb, likeliest_wrong, mean_lead, repeat, slope, total
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed, targeted_dlr
from grfd.attacks.ranges import COUNT, in_range
from grfd.attacks.threat import (
    Batch,
    Norm,
    Rows,
    finished,
    length,
    normal,
    per_image,
    project,
    rows_of,
    steepest,
    uniform,
)
from grfd.errors import UserError
from grfd.types import Images, Labels, Logits, PerExample

MOMENTUM = 0.75
"""α of algorithm 1: the share of the new step against that of the last move."""

RISING = 0.75
"""ρ: the step is halved if fewer than this share of the steps since the last checkpoint raised the loss."""

Look = Callable[[Images, Labels, Labels], tuple[Images, PerExample, PerExample]]
"""(iterates, labels, targets) -> (gradient, value, lead)."""


class Course(NamedTuple):
    """How long a run goes on, which of its points is kept, and what its starts are drawn from."""

    steps: int
    keep: str
    active_set: bool
    generator: torch.Generator | None


class Search(NamedTuple):
    """One row for each example still attacked, so that dropping an example is one index into every field."""

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


def apgd_ce(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    samples: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Auto-PGD on the cross-entropy, from a random point on the ball's surface.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length. `samples` gradients are summed (EOT) at every step. `restarts`: each works on what is not fooled
    yet. With `active_set` an example is done with the first iterate that the model gets wrong (pass False for random
    models, see `pgd`). Otherwise all steps are run, and `keep` says what is returned: "best", the iterate that the
    model gets most wrong, or "last", the last one that it gets wrong at all, as the original does.
    Loss values are compared through m (`losses.log_odds`), in which CE rises: the same decisions, no saturation; with
    several samples the mean of m stands in for that of CE. Raises UserError for a wrong shape, range, ε or count.
    """
    _check(steps, samples, keep, restarts=restarts)
    course = Course(steps, keep, active_set, generator)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        return _untargeted(model, batch, "cross_entropy", course, restarts, samples)


def apgd_dlr(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    samples: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Auto-PGD on the untargeted DLR (eq. 6). With two classes, where the original raises, on the margin.

    Keywords, and what is raised, as in `apgd_ce`.
    """
    _check(steps, samples, keep, restarts=restarts)
    course = Course(steps, keep, active_set, generator)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        return _untargeted(model, batch, "dlr", course, restarts, samples)


def apgd_t(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    samples: int = 1,
    keep: str = "best",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Auto-PGD on the targeted DLR, towards each of the `targets` likeliest wrong classes in turn.

    Where there are fewer wrong classes, towards all of them. Each run works on the examples that no earlier one
    fooled. Other keywords, and what is raised, as in `apgd_ce`.
    """
    _check(steps, samples, keep, targets=targets)
    course = Course(steps, keep, active_set, generator)
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        look = partial(_look, model, _towards, samples)
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels, samples)
        if len(images) == 0:
            return finished(result, batch)
        for target in likeliest_wrong(model, batch, targets):
            _improve((result, best), look, batch, target, course)
        return finished(result, batch)


def _untargeted(model: CheckedModel, batch: Batch, loss: str, course: Course, restarts: int, samples: int) -> Images:
    look = partial(_look, model, lambda targets: partial(climbed, loss), samples)
    result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels, samples)
    for _ in range(restarts):
        _improve((result, best), look, batch, batch.labels, course)
    return finished(result, batch)


def checkpoints(steps: int) -> list[int]:
    """w_j = ⌈p_j·steps⌉ with p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06), p_1 = 0.22 (section 3.1)."""
    percent, width, found = 22, 22, []
    # In whole per cent: 0.57·100 is 56.99… in floating point.
    while percent < 100:
        found.append(-(-percent * steps // 100))
        width = max(width - 3, 6)
        percent += width
    return sorted(set(found))


def _check(steps: int, samples: int, keep: str, **runs: int) -> None:
    in_range(steps=(steps, COUNT), samples=(samples, COUNT), **{name: (count, COUNT) for name, count in runs.items()})
    if keep not in ("best", "last"):
        raise UserError(f"{keep=}; expected 'best' or 'last'")


def _towards(targets: Labels) -> Climb:
    def climb(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
        values = targeted_dlr(logits, labels, targets.repeat(len(labels) // len(targets)))
        return values, torch.zeros_like(values)

    return climb


def _look(
    model: CheckedModel,
    climb: Callable[[Labels], Climb],
    samples: int,
    iterates: Images,
    labels: Labels,
    targets: Labels,
) -> tuple[Images, PerExample, PerExample]:
    seen = slope(model, repeat(iterates, samples), labels, climb(targets))
    return total(seen.gradient, seen.log_scale)[0], seen.values.mean(0), seen.lead.mean(0)


def _improve(held: tuple[Images, PerExample], look: Look, batch: Batch, targets: Labels, course: Course) -> None:
    """One run, whose better points replace rows of what is held, images and leads, in place."""
    rows = remaining(held[1], course.active_set or course.keep == "last")
    if len(rows) == 0:
        return
    found, leads = _run(look, rows_of(batch, rows), targets[rows], course)
    keep_better(*held, rows, found, leads)


def _run(look: Look, batch: Batch, targets: Labels, course: Course) -> tuple[Images, PerExample]:
    """One run: the iterate that is kept, and its lead."""
    search, found_lead = _start(look, batch, targets, course.generator)
    found, last_check, checks = search.iterates.clone(), 0, checkpoints(course.steps)
    for step in range(1, course.steps + 1):
        if course.active_set:
            alive = remaining(found_lead[search.rows], True)
            if len(alive) < len(search.rows):
                search = Search(*(tensor[alive] for tensor in search))
                batch, targets = rows_of(batch, alive), targets[alive]
        if len(search.rows) == 0:
            break
        search, leads = _step(look, search, batch, targets, 1.0 if step == 1 else MOMENTUM)
        if course.keep == "last":
            found_lead[search.rows] = torch.where(leads >= 0, -torch.inf, found_lead[search.rows])
        keep_better(found, found_lead, search.rows, search.iterates, leads)
        if step in checks:
            search, last_check = _adapt(search, step - last_check), step
    return found, found_lead


def _start(look: Look, batch: Batch, targets: Labels, generator: torch.Generator | None) -> tuple[Search, PerExample]:
    shape = tuple(batch.images.shape)
    if batch.norm == "linf":
        noise = uniform(batch.images, shape, -1.0, 1.0, generator)
    else:
        noise = normal(batch.images, shape, generator)
    start = project(batch.images + batch.eps * noise / per_image(length(noise, batch.norm)), batch)
    gradient, value, leads = look(start, batch.labels, targets)
    search = Search(
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


def _step(look: Look, search: Search, batch: Batch, targets: Labels, share: float) -> tuple[Search, PerExample]:
    """Algorithm 1, lines 7 to 10."""
    aim = project(search.iterates + per_image(search.step_size) * steepest(search.gradient, batch.norm), batch)
    move = share * (aim - search.iterates) + (1 - share) * (search.iterates - search.previous)
    iterates = project(search.iterates + move, batch)
    gradient, value, leads = look(iterates, batch.labels, targets)
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


def _adapt(search: Search, span: int) -> Search:
    """At a checkpoint: conditions 1 and 2 of section 3.1, either of which halves the step and returns to the top."""
    stalled = ~search.halved & (search.top_value == search.checked_value)
    halve = (search.rises < RISING * span) | stalled
    return search._replace(
        step_size=torch.where(halve, search.step_size / 2, search.step_size),
        iterates=torch.where(per_image(halve), search.top, search.iterates),
        gradient=torch.where(per_image(halve), search.top_gradient, search.gradient),
        checked_value=search.top_value,
        rises=torch.zeros_like(search.rises),
        halved=halve,
    )
