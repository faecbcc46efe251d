"""Accuracies under chosen threat models: robustness curves over ε, and targeted success."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from grfd.evaluation.case import Task, task_at
from grfd.evaluation.numbers import Groups, groups_of, rows_of_line
from grfd.evaluation.records import RECORDS, Record, roots_of
from grfd.evaluation.results import Row


def threat_rows(folder: Path) -> list[Row]:
    """The accuracies of a run folder under all chosen threat models, by norm, target and ε."""
    roots = sorted((task_at(root, "", "", "") for root in roots_of(folder) if root != RECORDS), key=_order)
    shortest = _shortest(folder, roots)
    lines: list[Row] = []
    smaller: dict[tuple[str | None, str | None], Groups] = {}
    for task in roots:
        ball, kind = task.ball, (task.ball.norm if task.ball else None, task.target)
        cut = _cut(groups_of(folder, task.root), shortest, kind)
        groups = _monotone(cut, smaller.get(kind, {}))
        if ball is not None and not np.isfinite(ball.eps):
            continue
        smaller[kind] = groups
        for key, group in groups.items():
            for row in rows_of_line(*key, group, list(group)):
                success = _success(group.get(row.attack)) if task.target else None
                lines.append(
                    replace(row, norm=kind[0], eps=ball.eps if ball else None, target=task.target, success=success)
                )
    return lines


_Kind = tuple[str | None, str | None]
"""Norm and target: the curve to which a threat model belongs."""


def _shortest(folder: Path, roots: list[Task]) -> dict[tuple[_Kind, tuple[str, str]], int]:
    """For each line of each curve the number of images that all its records have."""
    counts: dict[tuple[_Kind, tuple[str, str]], int] = {}
    for task in roots:
        kind = (task.ball.norm if task.ball else None, task.target)
        for key, group in groups_of(folder, task.root).items():
            count = min(map(len, group.values()))
            counts[kind, key] = min(count, counts.get((kind, key), count))
    return counts


def _cut(groups: Groups, shortest: dict[tuple[_Kind, tuple[str, str]], int], kind: _Kind) -> Groups:
    """The records of the images that all records of a line have, since a curve is of the same images throughout."""
    return {
        key: {name: record.rows(0, shortest[kind, key]) for name, record in group.items()}
        for key, group in groups.items()
    }


def _order(task: Task) -> tuple[str, str, float]:
    norm, eps = task.ball or ("", 0.0)
    return norm, task.target or "", eps


def _monotone(groups: Groups, smaller: Groups) -> Groups:
    """The records, with each example that falls at a smaller ε fallen at this one, too."""
    return {
        key: {name: _fallen(record, smaller.get(key, {}).get(name)) for name, record in group.items()}
        for key, group in groups.items()
    }


def _fallen(record: Record, before: Record | None) -> Record:
    if before is None:
        return record
    part = slice(0, min(len(record), len(before)))
    fell = before.clean[part] & ~before.robust[part]
    columns = dict(record.columns)
    for name in ("adversarial_prediction", "norm"):
        columns[name] = columns[name].copy()
        columns[name][part] = np.where(fell, before.columns[name][part], columns[name][part])
    return Record(columns, record.settings)


def _success(record: Record | None) -> float | None:
    """The share of the images of other classes that are mistaken for the target."""
    if record is None or "target" not in record.columns:
        return None
    others = record.columns["label"] != record.columns["target"]
    return float(record.hit[others].mean()) if others.any() else 0.0
