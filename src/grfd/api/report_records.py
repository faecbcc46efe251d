"""The records behind a report, checked: every run is evaluated, by this version of the judge, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grfd.api.evaluating import results
from grfd.errors import UserError
from grfd.evaluation import identity, kept_images
from grfd.evaluation.case import Task, task_at
from grfd.evaluation.corrupted import corruption_rows
from grfd.evaluation.distances import distances
from grfd.evaluation.numbers import rows
from grfd.evaluation.records import Record, path_of, read_records, roots_of
from grfd.evaluation.results import Results
from grfd.evaluation.threat_rows import threat_rows
from grfd.runs import Run


@dataclass(frozen=True, eq=False)
class ReportedCase:
    """One record of a run: an attack on a model under a protocol and threat model. `run`: its place in the report."""

    run: int
    task: Task
    record: Record
    kept: np.ndarray | None
    """x′ − x of the first images as float16, if adversarial images were kept."""


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """An evaluated run with its results, computed from its records, and the records themselves."""

    run: Run
    results: Results
    cases: tuple[ReportedCase, ...]

    @property
    def title(self) -> str:
        return str(self.run.path)


def reported_runs(runs: Sequence[Run]) -> list[ReportedRun]:
    """The runs of a report. Raises `UserError` for no run, one named twice, or runs that cannot stand side by side."""
    if not runs:
        raise UserError("expected at least one run folder")
    places = [run.path.resolve() for run in runs]
    for place, run in zip(places, runs, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{run.path} is named twice: expected different runs")
    reported = [_reported(number, run) for number, run in enumerate(runs)]
    for other in reported[1:]:
        _refuse_other_images(reported[0], other)
    return reported


def _reported(number: int, run: Run) -> ReportedRun:
    stored = results(run)
    cases = tuple(_cases(number, run.path))
    if not cases:
        raise UserError(f"{run.path} contains no records: run grfd evaluate {run.path}")
    lines = (*rows(run.path), *threat_rows(run.path))
    content = Results(lines, stored.checks, tuple(distances(run.path)), tuple(corruption_rows(run.path)))
    return ReportedRun(run, content, cases)


def _cases(number: int, folder: Path) -> list[ReportedCase]:
    cases = []
    for root in roots_of(folder):
        for key, record in read_records(folder, root=root).items():
            version = record.settings.get("judge", 1)
            if version != identity.VERSION:
                raise UserError(
                    f"{folder} holds records of version {version} of the judge, and this grfd reads version "
                    f"{identity.VERSION}: run grfd evaluate {folder} again"
                )
            kept = kept_images.read_differences(kept_images.kept_path(folder, path_of(folder, *key, root)))
            cases.append(ReportedCase(number, task_at(root, *key), record, kept))
    return cases


def _refuse_other_images(first: ReportedRun, other: ReportedRun) -> None:
    """Raises `UserError` if two runs were not judged on the same images."""
    mine, theirs = (max((case.record for case in each.cases), key=len).columns for each in (first, other))
    shared = min(len(mine["label"]), len(theirs["label"]))
    names = [name for name in ("label", "image") if name in mine and name in theirs]
    if not all(np.array_equal(mine[name][:shared], theirs[name][:shared]) for name in names):
        raise UserError(
            f"{first.title} and {other.title} were judged on different test images: a report compares runs on the same "
            "images, so write one report for each"
        )
