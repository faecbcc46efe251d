"""Records of other settings, models or images than those of an evaluation: they are moved, never overwritten."""

import itertools
from collections.abc import Iterable
from pathlib import Path

from grfd import processes
from grfd.attacks import ALL_ATTACKS
from grfd.evaluation import identity, kept_images, records
from grfd.evaluation.batch import record_path
from grfd.evaluation.case import (
    Case,
    Task,
    settings_of,
    task_at,
)
from grfd.evaluation.records import Record
from grfd.progress import side

STALE = "stale-records"
"""Folder of a run for records of other settings, models or images than those of the last evaluation, by evaluation."""


def set_stale_aside(case: Case, todo: list[Task]) -> None:
    """Moves records of other settings, models or images to another folder. Those that are needed are made again.

    All records of the case's models are compared, not only the requested ones, because a table shows all of them.
    """
    if not processes.is_main():
        return
    present = {
        task_at(root, *key): record
        for root in records.roots_of(case.folder)
        for name in case.models
        for key, record in records.read_records(case.folder, name, root).items()
    }
    longest = max((len(record) for record in present.values()), default=0)
    marks = identity.marks_of(case.split.images[:longest])
    stale = [task for task, record in present.items() if not _is_right(case, task, record, todo)
             or not identity.of_these_images(record, marks, case.split.labels)]  # fmt: skip
    if not stale:
        return
    aside = _unused_folder(case.folder / STALE)
    for path in [record_path(case, task) for task in stale]:
        for file in (path, kept_images.kept_path(case.folder, path)):
            moved = aside / file.relative_to(case.folder)
            if file.exists():
                moved.parent.mkdir(parents=True, exist_ok=True)
                file.replace(moved)
    side.print(f"{len(stale)} records belong to other models, images or settings: moved to {aside}")


def longest_record(folder: Path, models: Iterable[str]) -> int:
    """The number of images in the longest record of these models."""
    names = list(models)
    there = [
        record
        for root in records.roots_of(folder)
        for name in names
        for record in records.read_records(folder, name, root).values()
    ]
    return max((len(record) for record in there), default=0)


def _unused_folder(parent: Path) -> Path:
    """The first of the folders 1, 2, … that does not exist yet, so that no earlier record is overwritten."""
    return next(folder for number in itertools.count(1) if not (folder := parent / str(number)).exists())


def _is_right(case: Case, task: Task, record: Record, todo: list[Task]) -> bool:
    """Whether a record was made by these models and, if their budget is known, with these settings."""
    if task.attack not in ALL_ATTACKS and task not in todo:  # an attack of the user's own, which is not imported now
        return identity.of_these_models(record.settings, case.identities)
    settings = settings_of(case, task)
    if task in todo:
        return identity.same_settings(record.settings, settings)
    same = identity.same_budget(record.settings, settings)
    return same and identity.of_these_models(record.settings, case.identities)
