"""The course of one run of Auto-PGD in L1 (Croce & Hein 2021, arXiv 2103.01208, algorithms 1 and 2).

A step divides its length among the pixels with the largest gradients. How many there are follows from how many pixels
the best perturbation so far changes. The search runs in a ball of radius 3ε, then 2ε, then ε, because a larger ball is
easier to search; only the iterates of the last one count.
"""

from typing import NamedTuple

import torch

from grfd.attacks._apgd_run import Course, GradientAt
from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.threat import Batch, Rows, length, normal, per_image, project, rows_of, sparse_signs
from grfd.types import Images, Labels, PerExample

_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""(radius in multiples of ε, share of the steps)."""
_SHARE = 0.2
"""The share of pixels that the first steps change."""
_FEWER = 1.5
"""A step changes fewer pixels than the best perturbation, by this factor; step sizes are divided by it, too."""
_SPARSER = 0.95
"""The perturbation has become sparser if it changes less than this share of the pixels that it changed before."""
_SMALLEST = 10
"""The step size is at least ε divided by this."""
_CHECKED = 0.04
"""The share of the steps after which the step size is adapted."""


class _Search(NamedTuple):
    """One row for each example that is still attacked."""

    rows: Rows
    iterates: Images
    gradient: Images
    top: Images
    top_gradient: Images
    top_value: PerExample
    step_size: PerExample
    share: PerExample
    changed: PerExample


def improve_l1(
    result: Images, best: PerExample, gradient_at: GradientAt, batch: Batch, targets: Labels, course: Course
) -> None:
    """One run. Where it finds something better, `result` (images) and `best` (their leads) are changed in place."""
    rows = remaining(best, course.active_set or course.keep == "last")
    if len(rows) == 0:
        return
    part, goals = rows_of(batch, rows), targets[rows]
    noise = normal(part.images, tuple(part.images.shape), course.generator)
    start = part.images + 3 * part.eps * noise / per_image(length(noise, "l1"))
    for radius, steps in _STAGES:
        ball = part._replace(eps=radius * part.eps)
        last = radius == 1.0
        count = max(round(steps * course.steps), 1)
        start, kept, leads = _run(gradient_at, ball, goals, course._replace(steps=count), project(start, ball), last)
    keep_better(result, best, rows, kept, leads)


def _run(
    gradient_at: GradientAt, batch: Batch, targets: Labels, course: Course, start: Images, last: bool
) -> tuple[Images, Images, PerExample]:
    """One stage. Returns the iterates of the largest loss, those to be kept, and their leads.

    Examples leave at a success only in the last stage, since in a larger ball it is none.
    """
    gradient, value, leads = gradient_at(start, batch.labels, targets)
    search = _first(start, gradient, value, batch)
    kept, kept_lead, tops = start.clone(), leads.clone(), start.clone()
    every = max(int(_CHECKED * course.steps), 1)
    for step in range(1, course.steps + 1):
        if course.active_set and last:
            alive = remaining(kept_lead[search.rows], True)
            if len(alive) < len(search.rows):
                search = _Search(*(tensor[alive] for tensor in search))
                batch, targets = rows_of(batch, alive), targets[alive]
        if len(search.rows) == 0:
            break
        search, leads = _step(gradient_at, search, batch, targets)
        tops[search.rows] = search.top
        if course.keep == "last":
            kept_lead[search.rows] = torch.where(leads >= 0, -torch.inf, kept_lead[search.rows])
        keep_better(kept, kept_lead, search.rows, search.iterates, leads)
        if step % every == 0:
            search = _adapt(search, batch)
    return tops, kept, kept_lead


def _first(start: Images, gradient: Images, value: PerExample, batch: Batch) -> _Search:
    changed = _changed(start, batch)
    pixels = start[0].numel()
    whole = changed >= pixels - 0.5  # a random start: nothing is known about the number of pixels yet
    return _Search(
        rows=torch.arange(len(start), device=start.device),
        iterates=start,
        gradient=gradient,
        top=start,
        top_gradient=gradient,
        top_value=value,
        step_size=torch.full_like(value, batch.eps),
        share=torch.where(whole, _SHARE, changed / pixels / _FEWER),
        changed=changed,
    )


def _changed(images: Images, batch: Batch) -> PerExample:
    """The number of pixels that differ from the clean image."""
    return (images != batch.images).flatten(1).sum(1).to(images.dtype)


def _step(gradient_at: GradientAt, search: _Search, batch: Batch, targets: Labels) -> tuple[_Search, PerExample]:
    """A sparse step, projected onto the ball and the box."""
    move = per_image(search.step_size) * sparse_signs(search.gradient, search.share)
    iterates = project(search.iterates + move, batch)
    gradient, value, leads = gradient_at(iterates, batch.labels, targets)
    higher = value > search.top_value
    return search._replace(
        iterates=iterates,
        gradient=gradient,
        top=torch.where(per_image(higher), iterates, search.top),
        top_gradient=torch.where(per_image(higher), gradient, search.top_gradient),
        top_value=torch.where(higher, value, search.top_value),
    ), leads


def _adapt(search: _Search, batch: Batch) -> _Search:
    """If the best perturbation has become sparser, the search returns to it with large steps; else steps shorten."""
    changed = _changed(search.top, batch)
    sparser = changed < _SPARSER * search.changed
    shorter = (search.step_size / _FEWER).clamp_min(batch.eps / _SMALLEST)
    return search._replace(
        iterates=torch.where(per_image(sparser), search.top, search.iterates),
        gradient=torch.where(per_image(sparser), search.top_gradient, search.gradient),
        step_size=torch.where(sparser, batch.eps, shorter),
        share=changed / search.top[0].numel() / _FEWER,
        changed=changed,
    )
