"""`grfd report`: gathers what the page shows, and writes it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from grfd import runs
from grfd.api.evaluating import OwnClassifier
from grfd.api.job import AS_NAMED, Own, Source, as_path, open_run
from grfd.api.report_examples import explorer_part
from grfd.api.report_models import load_reported, transfer_matrix
from grfd.api.report_records import ReportedRun, reported_runs
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES
from grfd.errors import UserError
from grfd.evaluation.numbers import data_titles
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.stored import read_evaluation
from grfd.files import is_folder
from grfd.models.checks import as_module
from grfd.models.state import left_as_they_were
from grfd.report.html.advice import raised_flag
from grfd.report.html.charts import run_charts
from grfd.report.html.content import HtmlTable, ReportContent, RunPart
from grfd.report.html.entries import entries_of, title_of
from grfd.report.html.page import check_library, rendered
from grfd.report.html.tables import difference_table, leaderboard, run_tables
from grfd.report.html.verdict import verdict_of
from grfd.seeds import left_as_found
from grfd.training.metrics import METRICS_FILE, read_epochs

REPORT_FILE = "report.html"
"""Name of the report of one run, in its folder, and of a report of several runs, in the current folder."""


@dataclass(frozen=True)
class WrittenReport:
    """The report that was written: its file, its size in bytes, and the number of examples in it."""

    path: Path
    size: int
    examples: int


@left_as_found()
def report(
    sources: Sequence[Source] | Source,
    out: Path | str | None = None,
    own: Own = AS_NAMED,
    models: Mapping[str, OwnClassifier] | None = None,
) -> WrittenReport:
    """Writes one self-contained HTML file on one or several evaluated runs. Returns its path and size.

    `out`: RUN/report.html by default, for several runs report.html in the current folder. `own`: the data and the model
    of runs that name your own. `models`: those of `evaluate_model` by name, which no run folder contains. Raises
    `UserError` for runs that have not been evaluated, have records of another version of the judge, or were judged on
    different images.
    """
    listed = [sources] if isinstance(sources, str | Path | runs.Run) else list(sources)
    opened = [open_run(source) for source in listed]
    path = _file_for(opened, out)
    check_library()
    given = {name: as_module(each, name) for name, each in (models or {}).items()}
    with left_as_they_were(*given.values()):
        content = report_content(reported_runs(opened), own, {name: each.eval() for name, each in given.items()})
    page = rendered(content).encode()
    runs.write_bytes(path, page)
    return WrittenReport(path, len(page), content.explorer.examples)


def _file_for(opened: list[runs.Run], out: Path | str | None) -> Path:
    """Where the report is written. Raises `UserError` where no file can be."""
    if out is None:
        return opened[0].file(REPORT_FILE) if len(opened) == 1 else Path(REPORT_FILE)
    path = as_path(out, "out")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out is {path}: expected the name of a file that ends in .html")
    if not is_folder(path.parent):
        raise UserError(f"{path.parent} is no folder: make it first")
    if is_folder(path):
        raise UserError(f"{path} is a folder: expected the name of a file")
    return path


def report_content(
    reported: Sequence[ReportedRun], own: Own = AS_NAMED, given: Mapping[str, nn.Module] | None = None
) -> ReportContent:
    """All that a report shows of these runs."""
    loaded = load_reported(reported, own, given)
    entries = [entry for each in reported for entry in entries_of(each.title, each.results)]
    tables: list[HtmlTable | None] = [leaderboard(entries), difference_table(entries)] if len(reported) > 1 else []
    tables.append(transfer_matrix(reported, loaded))
    data = reported[0].run.config.data
    on = data_titles().get(data, data)
    if len(reported) == 1:
        title, verdict = (
            f"{reported[0].title} on {on}",
            verdict_of(reported[0].results),
        )
    else:
        title, verdict = f"{len(reported)} runs on {on}", _verdict_across(reported)
    across = tuple(table for table in tables if table is not None)
    return ReportContent(title, verdict, tuple(map(_part, reported)), explorer_part(reported, loaded), across)


def _verdict_across(reported: Sequence[ReportedRun]) -> str:
    """The verdict on the run whose best defense is the most accurate in the worst case."""

    def best(each: ReportedRun) -> tuple[int, float]:
        return max((entry.rank for entry in entries_of("", each.results)), default=(0, 0.0))

    first = max(reported, key=best)
    return f"Of {len(reported)} runs, {first.title} leads. {verdict_of(first.results)}"


def _part(reported: ReportedRun) -> RunPart:
    outcome, run = reported.results, reported.run
    flagged = [check for check in outcome.checks if check.flagged]
    used = {row.protocol for row in outcome.rows}
    about = read_evaluation(run.path) if run.has("evaluation.json") else {}
    return RunPart(
        title=reported.title,
        verdict=verdict_of(outcome),
        protocols=tuple((name, meaning) for name, meaning in PROTOCOLS.items() if name in used),
        tables=run_tables(outcome),
        flags=tuple(raised_flag(check, title_of(check.model)) for check in flagged),
        checks=len(outcome.checks),
        charts=run_charts(outcome, read_epochs(run.file(METRICS_FILE)), _passes(reported)),
        settings=tuple((name, _shown(value)) for name, value in asdict(run.config).items()),
        versions=_versions(run, about),
        commands=reproducing_commands(run, about),
    )


def _passes(reported: ReportedRun) -> list[dict[str, Any]]:
    """What each attack of Table 1's budgets spent and left."""
    return [
        {
            "model": case.task.model, "protocol": case.task.protocol, "attack": case.task.attack,
            "accuracy": round(100 * float(case.record.robust.mean()), 3),
            "passes": round(float(case.record.columns["queries"].mean()), 2),
        }
        for case in reported.cases
        if case.task.ball is None and case.task.target is None
    ]  # fmt: skip


def _versions(run: runs.Run, about: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Where the numbers come from: images, seed, revision, versions and machine of the evaluation."""
    lines = [("seed", str(run.config.seed)), ("images", str(about.get("images", "unknown")))]
    lines.append(("git revision", str(about.get("git_revision") or "unknown")))
    for group in ("versions", "machine"):
        stored = about.get(group)
        lines += [(str(name), _shown(value)) for name, value in stored.items()] if isinstance(stored, dict) else []
    return tuple(lines)


def _shown(value: object) -> str:
    return "none" if value is None else " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def reproducing_commands(run: runs.Run, about: dict[str, Any]) -> tuple[str, ...]:
    """The commands that train and evaluate the run again, in another folder."""
    evaluation = ["grfd", "evaluate", *_evaluation_options(about)]
    if ":" in run.config.model and not run.has("standard.safetensors"):
        own = ["--model", run.config.model, "--data", run.config.data, "--out", "NEW"]
        return (shlex.join(["grfd", "evaluate", *own, *_evaluation_options(about)]),)
    recipes = [path.stem for path in sorted((run.path / "recipes").glob("*.json"))]
    fits = [f"grfd fit {name} --out NEW" for name in recipes if name in DEFENSES and name not in ("grfd", "standard")]
    return (shlex.join(_training_words(run.config)), *fits, shlex.join([*evaluation[:2], "NEW", *evaluation[2:]]))


def _training_words(config: Config) -> list[str]:
    """`grfd train` with the preset that is nearest to the settings, and the settings that differ from it."""

    def differing(name: str) -> list[str]:
        return [
            field.name for field in fields(Config) if getattr(PRESETS[name], field.name) != getattr(config, field.name)
        ]

    preset = min(PRESETS, key=lambda name: len(differing(name)))
    words = ["grfd", "train", preset, "--out", "NEW"]
    for name in differing(preset):
        value, option = getattr(config, name), name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", *_words(value)]
    return words


def _evaluation_options(about: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name in ("protocols", "attacks", "examples", "norm", "eps", "target", "keep_images", "corruptions"):
        value, option = about.get(name), f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value not in (None, False, [], ()):
            words += [option, *_words(value)]
    return words


def _words(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
