"""The paper's tables and figures, and the pages that compare them with ours."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Interval
from rich.table import Table

from grfd.bench.page import write_attacks_page
from grfd.commands.arguments import Mode
from grfd.errors import UserError
from grfd.experiments import EXPERIMENTS, cells
from grfd.experiments.minutes import measured_minutes, store_minutes
from grfd.experiments.page import write_page
from grfd.progress import answer_alone, console, print_json

MODES: tuple[Mode, ...] = (
    Mode(
        "grfd reproduce --list",
        lambda asked: asked["list"] or asked["name"] is None,
        ("dataset", "data_dir", "out", "dry_run"),
        "name an experiment to run, without --list",
    ),
    Mode(
        "grfd reproduce on MNIST",
        lambda asked: asked["dataset"] == "mnist",
        ("data_dir",),
        "MNIST comes with the package",
    ),
)
"""Ways of calling `grfd reproduce` in which some of its options have no effect."""


def reproduce_command(
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(help=f"One of {', '.join(EXPERIMENTS)}.")] = None,
    *,
    dataset: Literal["mnist", "cifar10", "cifar100"] = "mnist",
    data_dir: Path | None = None,
    scale: str = "quick",
    seeds: Annotated[int, Interval(ge=1, le=1000)] = 1,
    out: Path | None = None,
    dry_run: bool = False,
    list: bool = False,
    json: bool = False,
) -> None:
    """Reproduce one of the paper's tables or figures and print it beside the paper's numbers. It can be resumed.

    Args:
        dataset: CIFAR has the scale small. rsm, none-row and sources are for MNIST only.
        data_dir: Directory of CIFAR. By default it is downloaded. MNIST comes with the package.
        scale: quick (minutes), short (a schedule that fits two cores, where an experiment has it) or paper (hours).
        seeds: Number of seeds, counted from 0.
        out: The folder for its runs. The default is runs/NAME; experiments on variants of GRFD share runs/variants.
        dry_run: Only print the cells of the experiment, their cost and state.
        list: Only print the experiments with claim, cost and state at that scale.
        json: Print JSON: an object for each experiment (--list), for each cell (--dry-run), or for each table.
    """
    if name is not None and name not in EXPERIMENTS:
        raise UserError(f"unknown experiment {name!r}: expected one of {', '.join(EXPERIMENTS)}")
    if list or name is None:
        _print_states(EXPERIMENTS if name is None else {name: EXPERIMENTS[name]}, scale, seeds, json)
        return
    experiment, folder = EXPERIMENTS[name], out or Path("runs") / EXPERIMENTS[name].FOLDER
    scale = scale if dataset == "mnist" else f"{dataset}-{scale}"
    cells.check_scale(experiment, scale, seeds)
    todo = experiment.cells(folder, scale, seeds, **({} if data_dir is None else {"data_dir": data_dir}))
    if dry_run:
        _print_plan(todo, measured_minutes(folder, scale), json)
        return
    with answer_alone(json):
        cells.run(todo, partial(store_minutes, folder, scale))
        parts = experiment.show(folder, scale, seeds)
    if json:
        print_json([as_json(part) for part in parts if isinstance(part, Table)])
        return
    for part in parts:
        console.print(part)


def _print_states(experiments: dict[str, cells.Experiment], scale: str, seeds: int, json: bool) -> None:
    states = cells.states(experiments, scale, seeds)
    if json:
        print_json([asdict(state) for state in states])
        return
    for state in states:
        console.print(cells.paragraph(state))


def _print_plan(todo: list[cells.Cell], minutes: Mapping[str, float], json: bool) -> None:
    if json:
        print_json([{"cell": cell.name, "minutes": minutes.get(cell.name), "done": cell.done()} for cell in todo])
    else:
        console.print(cells.plan(todo, minutes))


def as_json(table: Table) -> dict[str, Any]:
    """Title, column headers and rows of cells, as text."""
    columns = [[_plain(each) for each in column.cells] for column in table.columns]
    headers = [_plain(column.header) for column in table.columns]
    return {"title": _plain(table.title or ""), "columns": headers, "rows": [*zip(*columns, strict=True)]}


def _plain(cell: object) -> str:
    return " ".join(str(cell).split())


def page_command(*, results: Path = Path("results"), out: Path = Path("docs"), json: bool = False) -> None:
    """Write the pages that compare our results with the paper's, and our attacks with other libraries'.

    Args:
        results: The folder of kept runs and benchmarks.
        out: The folder for reproduction.md and attacks.md.
        json: Print {"written": [...]}.
    """
    with answer_alone(json):
        write_page(results, out / "reproduction.md")
        written = [out / "reproduction.md"]
        if any(results.glob("attack_*.json")):
            write_attacks_page(results, out / "attacks.md")
            written.append(out / "attacks.md")
    if json:
        print_json({"written": [str(file) for file in written]})
        return
    for file in written:
        console.print(f"written {file}")
