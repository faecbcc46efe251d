"""The paper's tables and figures, and the pages that compare them with ours."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from annotated_types import Interval
from rich.table import Table

from grfd import processes
from grfd.bench.page import write_attacks_page
from grfd.commands.arguments import Mode
from grfd.errors import UserError
from grfd.experiments import EXPERIMENTS, cells, object_store
from grfd.experiments.minutes import measured_minutes, minutes_file_of_shard, store_minutes
from grfd.experiments.page import write_page
from grfd.experiments.shards import Planned, in_turn, part_of, run_together, shard_of
from grfd.progress import answer_alone, console, print_json, side, titled

ALL = "all"
"""In place of the name of an experiment."""

MODES: tuple[Mode, ...] = (
    Mode(
        "grfd reproduce --list",
        lambda asked: asked["list"] or asked["name"] is None,
        ("dataset", "data_dir", "out", "shard", "store", "dry_run"),
        "name an experiment to run, without --list",
    ),
    Mode(
        "grfd reproduce --dry-run",
        lambda asked: asked["dry_run"],
        ("store",),
        "without --dry-run, files are exchanged with it",
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
    name: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(help=f"One of {', '.join(EXPERIMENTS)}, or all of them.")
    ] = None,
    *,
    dataset: Literal["mnist", "cifar10", "cifar100"] = "mnist",
    data_dir: Path | None = None,
    scale: str = "quick",
    seeds: Annotated[int, Interval(ge=1, le=1000)] = 1,
    out: Path | None = None,
    shard: str = "1/1",
    store: str | None = None,
    dry_run: bool = False,
    list: bool = False,
    json: bool = False,
) -> None:
    """Reproduce one of the paper's tables or figures and print it beside the paper's numbers. It can be resumed.

    Args:
        dataset: CIFAR has the scale small, and table3 on CIFAR-10 also medium. rsm, none-row, sources and exchanged
            are for MNIST only.
        data_dir: Directory of CIFAR. By default it is downloaded. MNIST comes with the package.
        scale: quick (minutes), short (a schedule that fits two cores, where an experiment has it) or paper (hours).
        seeds: Number of seeds, counted from 0.
        out: The folder for its runs. The default is runs/NAME; experiments on variants of GRFD share runs/variants.
        shard: K/N: this is the K-th of N machines that share the folder. It begins with seeds of its own, then does
            what the others have not begun. With --store, or under torchrun, it does only its own seeds.
        store: URL of an object store, such as s3://bucket/runs, for N machines that share no folder. New files are
            fetched from it before the work begins and sent to it after each cell.
        dry_run: Only print the cells of the experiment, their cost and state.
        list: Only print the experiments with claim, cost and state at that scale.
        json: Print JSON: an object for each experiment (--list), for each cell (--dry-run), or for each table.
    """
    if name not in (None, ALL, *EXPERIMENTS):
        raise UserError(f"unknown experiment {name!r}: expected {ALL} or one of {', '.join(EXPERIMENTS)}")
    chosen = EXPERIMENTS if name in (None, ALL) else {name: EXPERIMENTS[name]}
    if list or name is None:
        _print_states(chosen, scale, seeds, json)
        return
    mine = shard_of(shard)
    where = {} if data_dir is None else {"data_dir": data_dir}
    whole = planned(chosen, scale if dataset == "mnist" else f"{dataset}-{scale}", seeds, out, **where)
    plan = part_of(whole, mine)
    if dry_run:
        _print_plan(plan, json)
        return
    with answer_alone(json):
        stores = {} if store is None else _stores(store, whole)
        _fetch(stores)
        keep = partial(_keep, minutes_file_of_shard(mine.number, mine.count), stores)
        # under torchrun, the processes of a machine would compete for the lock of a cell
        if mine.count > 1 and store is None and processes.count() == 1:
            run_together(in_turn(whole, mine), keep)
        else:
            for each in plan:
                cells.run(each.cells, partial(keep, each))
        for place in stores.values():
            object_store.send(place)
        _fetch(stores)  # what other machines have done meanwhile
        parts = [part for each in whole for part in _shown(each, seeds)]
    if json:
        print_json([as_json(part) for part in parts if isinstance(part, Table)])
        return
    for part in parts:
        console.print(part)


def _stores(url: str, whole: Sequence[Planned]) -> dict[Path, object_store.Store]:
    """Folder → its place in the object store."""
    return {each.folder: object_store.open_store(url, each.experiment.FOLDER, each.folder) for each in whole}


def _fetch(stores: Mapping[Path, object_store.Store]) -> None:
    for place in stores.values():
        if count := object_store.fetch(place):
            side.print(f"fetched {count} files of {place.folder.name}")


def _keep(file: str, stores: Mapping[Path, object_store.Store], each: Planned, cell: str, minutes: float) -> None:
    """What follows a cell: its time is stored, and its files are sent."""
    store_minutes(each.folder, each.scale, cell, minutes, file=file)
    if each.folder in stores:
        object_store.send_or_say(stores[each.folder])


def planned(
    experiments: Mapping[str, cells.Experiment], scale: str, seeds: int, out: Path | None, **where: Path
) -> list[Planned]:
    """The cells of experiments. Of several, those that lack the scale are left out, and `out` gets a folder for each.

    Raises `UserError` for a scale that none of them has.
    """
    several = len(experiments) > 1
    having = {name: each for name, each in experiments.items() if not several or scale in each.SCALES}
    if not having:
        raise UserError(f"no experiment has the scale {scale!r}: `grfd reproduce --list` shows them")
    if missing := [name for name in experiments if name not in having]:
        side.print(f"without {', '.join(missing)}, which have no scale {scale}")
    plan = []
    for name, each in having.items():
        cells.check_scale(each, scale, seeds)
        folder = Path("runs") / each.FOLDER if out is None else out / each.FOLDER if several else out
        plan.append(Planned(name, each, folder, scale, each.cells(folder, scale, seeds, **where)))
    return plan


def _shown(each: Planned, seeds: int) -> Sequence[Table | str]:
    """Its tables, or how much of it other machines still have to do."""
    left = [cell for cell in each.cells if not cell.done()]
    if left:
        return [f"{each.name}: {len(left)} of {len(each.cells)} cells are left to the other shares"]
    return each.experiment.show(each.folder, each.scale, seeds)


def _print_states(experiments: dict[str, cells.Experiment], scale: str, seeds: int, json: bool) -> None:
    states = cells.states(experiments, scale, seeds)
    if json:
        print_json([asdict(state) for state in states])
        return
    for state in states:
        console.print(cells.paragraph(state))


def _print_plan(plan: Sequence[Planned], json: bool) -> None:
    """The cells of each experiment, with the minutes that they took where they were measured."""
    minutes = {each.name: measured_minutes(each.folder, each.scale) for each in plan}
    if json:
        print_json([
            ({"experiment": each.name} if len(plan) > 1 else {})
            | {"cell": cell.name, "minutes": minutes[each.name].get(cell.name), "done": cell.done()}
            for each in plan for cell in each.cells
        ])  # fmt: skip
        return
    for each in plan:
        if len(plan) > 1:
            console.print(titled(each.name, f" --scale {each.scale}"))
        console.print(cells.plan(each.cells, minutes[each.name]))


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
