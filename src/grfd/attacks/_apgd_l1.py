"""One run of Auto-PGD in L1 (Croce & Hein 2021, arXiv 2103.01208, algorithm 1 and its schedule of radii)."""

from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks._apgd_run import Course, GradientAt
from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.threat import Batch, Rows, normal, per_image, project, rows_of, sparse_signs
from grfd.types import Images, Labels, PerExample

_RADII = ((3, 0.3), (2, 0.3), (1, 0.4))
"""The radius of each stage in multiples of ε, and its share of the steps. The larger balls find better starts."""

_DENSITY = 1.5
"""By this factor, a step changes fewer pixels than the best point so far."""

_SHRINK = 1.5
"""The step size is divided by it where the best point has not become sparser."""

_SMALLEST_STEP = 0.1
"""The smallest step size in multiples of the radius. The largest one is the radius."""

_SPARSER = 0.95
"""The best point has become sparser if its number of changed pixels fell below this share of the last one."""


class _Search(NamedTuple):
    """One row for each example that is still attacked.

    `share` is the share of the pixels that a step changes, and `changed` the number of pixels that the best point had
    changed at the last adaptation.
    """

    rows: Rows
    iterates: Images
    gradient: Images
    top: Images
    top_gradient: Images
    top_value: PerExample
    step_size: PerExample
    share: PerExample
    changed: PerExample


def run_in_l1(gradient_at: GradientAt, batch: Batch, targets: Labels, course: Course) -> tuple[Images, PerExample]:
    """One run. Returns the iterate that is kept for each example, and its lead.

    Only the last stage has the radius ε, so only there an iterate can be a success and an example can leave.
    """
    point = batch.images + normal(batch.images, tuple(batch.images.shape), course.generator)
    *wide, _ = (int(share * course.steps) for _, share in _RADII)
    for (factor, _), steps in zip(_RADII, wide, strict=False):
        if steps:
            point = _wide_stage(gradient_at, batch._replace(eps=factor * batch.eps), targets, point, steps)
    return _last_stage(gradient_at, batch, targets, point, course._replace(steps=course.steps - sum(wide)))


def _wide_stage(gradient_at: GradientAt, batch: Batch, targets: Labels, point: Images, steps: int) -> Images:
    """The point with the highest loss in a ball larger than ε."""
    search, _ = _start(gradient_at, batch, targets, point)
    for step in range(1, steps + 1):
        search, _ = _step(gradient_at, search, batch, targets)
        if step % _period(steps) == 0:
            search = _adapt(search, batch)
    return search.top


def _last_stage(
    gradient_at: GradientAt, batch: Batch, targets: Labels, point: Images, course: Course
) -> tuple[Images, PerExample]:
    search, kept_lead = _start(gradient_at, batch, targets, point)
    kept = search.iterates.clone()
    for step in range(1, course.steps + 1):
        if course.active_set:
            alive = remaining(kept_lead[search.rows], True)
            if len(alive) < len(search.rows):
                search = _Search(*(tensor[alive] for tensor in search))
                batch, targets = rows_of(batch, alive), targets[alive]
        if len(search.rows) == 0:
            break
        search, leads = _step(gradient_at, search, batch, targets)
        if course.keep == "last":
            kept_lead[search.rows] = torch.where(leads >= 0, -torch.inf, kept_lead[search.rows])
        keep_better(kept, kept_lead, search.rows, search.iterates, leads)
        if step % _period(course.steps) == 0:
            search = _adapt(search, batch)
    return kept, kept_lead


def _start(gradient_at: GradientAt, batch: Batch, targets: Labels, point: Images) -> tuple[_Search, PerExample]:
    start = project(point, batch)
    gradient, value, leads = gradient_at(start, batch.labels, targets)
    changed = _changed(start, batch)
    search = _Search(
        rows=torch.arange(len(start), device=start.device),
        iterates=start,
        gradient=gradient,
        top=start,
        top_gradient=gradient,
        top_value=value,
        step_size=torch.full_like(value, batch.eps),
        share=_share(changed, batch),
        changed=changed,
    )
    return search, leads


def _step(gradient_at: GradientAt, search: _Search, batch: Batch, targets: Labels) -> tuple[_Search, PerExample]:
    """A sparse step without momentum, projected onto ball ∩ box."""
    stepped = search.iterates + per_image(search.step_size) * sparse_signs(search.gradient, search.share)
    iterates = project(stepped, batch)
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
    """The sparsity of the next steps follows that of the best point so far.

    Where that point has become sparser, the search returns to it with the largest step size. Elsewhere the step size
    shrinks.
    """
    changed = _changed(search.top, batch)
    sparser = changed < _SPARSER * search.changed
    smaller = (search.step_size / _SHRINK).clamp_min(_SMALLEST_STEP * batch.eps)
    return search._replace(
        iterates=torch.where(per_image(sparser), search.top, search.iterates),
        gradient=torch.where(per_image(sparser), search.top_gradient, search.gradient),
        step_size=torch.where(sparser, batch.eps, smaller),
        share=_share(changed, batch),
        changed=changed,
    )


def _changed(images: Images, batch: Batch) -> PerExample:
    """How many pixels differ from the clean image."""
    return (images != batch.images).flatten(1).sum(1).to(images.dtype)


def _share(changed: Tensor, batch: Batch) -> PerExample:
    return changed / batch.images[0].numel() / _DENSITY


def _period(steps: int) -> int:
    """After how many steps the search adapts."""
    return max(int(0.04 * steps), 1)
