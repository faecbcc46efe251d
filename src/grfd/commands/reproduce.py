"""The paper's tables and figures, and the pages that set them beside ours."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Interval

from grfd.bench.page import write_attacks_page
from grfd.commands.arguments import Mode
from grfd.errors import UserError
from grfd.experiments import EXPERIMENTS, cells
from grfd.experiments.page import write_page
from grfd.progress import console

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
"""How `grfd reproduce` can be called, and which of its options do nothing then."""


def reproduce_command(
    name: tyro.conf.Positional[str | None] = None,
    *,
    dataset: Literal["mnist", "cifar10", "cifar100"] = "mnist",
    data_dir: Path | None = None,
    scale: str = "quick",
    seeds: Annotated[int, Interval(ge=1, le=1000)] = 1,
    out: Path | None = None,
    dry_run: bool = False,
    list: bool = False,
) -> None:
    """Run one of the paper's tables or figures and print it beside the paper's numbers. It continues where it stopped.

    Args:
        name: table2, table3, fig2, fig3, fig4a, fig4b, readings, rsm, none-row, sources, robust.
        dataset: CIFAR's scale is small; rsm and none-row are of MNIST alone.
        data_dir: Where CIFAR lies (downloaded where it is not given); MNIST comes with the package.
        scale: quick (minutes), short (a schedule that fits two cores, where an experiment has it) or paper (hours).
        seeds: Runs under so many seeds.
        out: The folder for its runs (runs/NAME if not given; experiments on variants of GRFD share runs/variants).
        dry_run: Print its cells, what they cost and which are done, and do nothing.
        list: Print the experiments with claim, cost and state at that scale, and do nothing.
    """
    if name is not None and name not in EXPERIMENTS:
        raise UserError(f"unknown experiment {name!r}: expected one of {', '.join(EXPERIMENTS)}")
    if list or name is None:
        for paragraph in cells.listed(EXPERIMENTS if name is None else {name: EXPERIMENTS[name]}, scale, seeds):
            console.print(paragraph)
        return
    experiment, folder = EXPERIMENTS[name], out or Path("runs") / EXPERIMENTS[name].FOLDER
    scale = scale if dataset == "mnist" else f"{dataset}-{scale}"
    cells.check(experiment, scale, seeds)
    todo = experiment.cells(folder, scale, seeds, **({} if data_dir is None else {"data_dir": data_dir}))
    if dry_run:
        console.print(cells.plan(todo))
        return
    cells.run(todo)
    for part in experiment.show(folder, scale, seeds):
        console.print(part)


def page_command(*, results: Path = Path("results"), out: Path = Path("docs")) -> None:
    """Write the pages that set the paper's numbers, and other libraries', beside ours, from committed records.

    Args:
        results: The folder of evaluated runs and benchmarks.
        out: The folder for reproduction.md and attacks.md.
    """
    write_page(results, out / "reproduction.md")
    console.print(f"written {out / 'reproduction.md'}")
    if any(results.glob("attack_*.json")):
        write_attacks_page(results, out / "attacks.md")
        console.print(f"written {out / 'attacks.md'}")
