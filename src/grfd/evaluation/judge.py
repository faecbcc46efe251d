"""The judge: it attacks models under protocols, batch by batch, and writes a record of each example. It can resume."""

from dataclasses import replace

import numpy as np
import torch

from grfd import processes
from grfd.attacks.registry import entry_of
from grfd.data.record import as_images
from grfd.errors import UserError
from grfd.evaluation import kept_images, records
from grfd.evaluation.batch import ImageBatch, judged, record_path, recorded
from grfd.evaluation.case import (
    Case,
    Task,
    looked_at,
    tasks_of,
)
from grfd.evaluation.crafting import LabelledImages
from grfd.evaluation.records import Record
from grfd.evaluation.request import Request
from grfd.evaluation.stale import set_stale_aside
from grfd.memory import keep_freed_memory
from grfd.progress import Advance, progress

IMAGES_AT_ONCE = 500
"""ImageBatch size of the judge."""


def attack_all(case: Case, request: Request) -> None:
    """Writes the missing records of the first `request.examples` images of the split, with the budgets of the case.

    Each of several processes takes a batch; the records are bit-identical to those of a single process.
    """
    examples = min(request.examples, len(case.split))
    case = case if case.identities else looked_at(case)
    case = replace(case, keep_images=request.keep_images)
    todo = tasks_of(case, request)
    if not todo:
        raise UserError(f"no model here can be judged under {', '.join(request.protocols)}: nothing to do")
    set_stale_aside(case, todo)
    processes.wait()
    total = sum(max(examples - recorded(case, task), 0) * _cost(task) for task in todo)
    if not total:
        return
    keep_freed_memory()
    # the outer loop is over batches, so that a transferred batch is made once for all models
    with progress("attacks", total) as advance:
        for attack in request.attacks:
            mine = [task for task in todo if task.attack == attack]
            while min((done := {task: recorded(case, task) for task in mine}).values()) < examples:
                _round(case, done, examples, advance)


EXTRA_PASSES = {"fgsm": 6, "pgd": 1900}
"""Forward passes per image that `adaptive` adds to an attack, counted as in `AttackEntry.passes`."""


def _cost(task: Task) -> int:
    """Rough cost per image, relative to other tasks."""
    if task.protocol == "adaptive":
        return EXTRA_PASSES.get(task.attack, 1)
    passes = entry_of(task.attack).passes
    return passes // 2 if task.protocol == "transfer" else passes  # transferred examples serve all models


def _ranges(done: dict[Task, int], examples: int) -> list[range]:
    """The images of the next batch of each process. A batch ends where the record of another task ends."""
    ranges: list[range] = []
    start = min(done.values())
    while start < examples and len(ranges) < processes.count():
        stop = min([start + IMAGES_AT_ONCE, examples, *(other for other in done.values() if other > start)])
        ranges.append(range(start, stop))
        start = stop
    return ranges


@torch.no_grad()
def _round(case: Case, done: dict[Task, int], examples: int, advance: Advance) -> None:
    """One batch in each process, task by task, because a task may need the records of earlier ones."""
    ranges = _ranges(done, examples)
    here = ranges[processes.index()] if processes.index() < len(ranges) else range(0)
    part = slice(here.start, here.stop)
    images = as_images(case.split.images[part].to(case.device))
    batch = ImageBatch(here.start, LabelledImages(images, case.split.labels[part].to(case.device)))
    for task, count in done.items():
        mine = len(batch) and count <= batch.start
        for record, differences in processes.gathered([_within_memory(case, task, batch)] if mine else []):
            records.append_record(record_path(case, task), record)
            if differences is not None:
                kept = kept_images.kept_path(case.folder, record_path(case, task))
                kept_images.append_differences(kept, differences, int(record.columns["index"][0]))
            text = f"{_shown(task)}: {record.robust.mean():.1%} of {len(record)} right"
            advance(len(record) * _cost(task), text)
        processes.wait()


def _within_memory(case: Case, task: Task, batch: ImageBatch) -> tuple[Record, np.ndarray | None]:
    """`judged`. Where an accelerator runs out of memory, half as many images are differentiated at a time.

    The batch begins again with the same random streams, so that its record does not depend on it.
    """
    while True:
        try:
            return judged(case, task, batch)
        except torch.OutOfMemoryError:
            now = case.passes.get(task.model) or len(batch)
            if now <= 1:
                raise
            case.passes.update(dict.fromkeys(case.models, max(now // 2, 1)))
            batch.crafted.clear()


def _shown(task: Task) -> str:
    threat = "" if task.ball is None else f" ({task.ball})"
    target = "" if task.target is None else f" towards {task.target}"
    return f"{task.attack}{threat}{target} {task.protocol} {task.model}"
