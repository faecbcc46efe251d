"""The commands by which a reader checks our numbers: benchmarks, the paper's tables and figures, and the pages."""

import json as json_format
from pathlib import Path
from typing import Annotated, Literal

import tyro
from annotated_types import Interval

from grfd import files
from grfd.arguments import Mode
from grfd.config import preset
from grfd.errors import UserError, masked
from grfd.experiments import EXPERIMENTS, attack_bench, cells, train_bench, transfer_bench
from grfd.experiments.victims import VICTIMS
from grfd.progress import answer_alone, console, print_json
from grfd.report.attacks_page import write_attacks_page
from grfd.report.page import write_page
from grfd.report.sheets import printed
from grfd.schema import Count, Examples, Seed, Steps

MODES: dict[str, tuple[Mode, ...]] = {
    "reproduce": (
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
    ),
    "bench": (
        Mode(
            "grfd bench transfer",
            lambda asked: asked["what"] == "transfer",
            ("models", "repeats"),
            "it has models of its own, and nothing is timed",
        ),
    ),
    "sweep": (
        Mode(
            "grfd sweep --dry-run",
            lambda asked: asked["dry_run"],
            ("trials", "pruner"),
            "it is for a worker that takes points",
        ),
    ),
}
"""Command → how it can be called, and which of its options do nothing then."""


def page(*, results: Path = Path("results"), out: Path = Path("docs")) -> None:
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


def bench(
    what: tyro.conf.Positional[Literal["attacks", "parity", "transfer"]],
    *,
    attacks: tuple[str, ...] = (),
    models: tuple[str, ...] = tuple(VICTIMS),
    examples: Examples = 500,
    repeats: Count = 3,
    out: Path = Path("runs/bench"),
    save: Path | None = None,
    json: bool = False,
) -> None:
    """Run our attacks beside those of other libraries that are installed: seconds, and the robust accuracy left.

    Args:
        what: attacks: the speed of seven of them at full length. parity: all that some library has too, shorter, and
            then transfer. transfer: examples that are made on one network and given to another.
        attacks: A part of them (all where none is named).
        models: Of lenet5, "lenet5 adversarially trained", "residual net": trained once, on MNIST, then kept in --out.
        examples: Attack the first so many test images.
        repeats: Runs of each; the median is shown.
        out: Folder for the models.
        save: A JSON file for the rows, with machine and versions; it grows, and what is in it is not measured again.
        json: Print the rows instead: library, attack, model, examples, repeats, seconds, robust.
    """
    _check_places(out, save)
    for name in models:
        if name not in VICTIMS:
            raise UserError(f"unknown model {name!r}: expected one of {', '.join(VICTIMS)}")
    budgets = attack_bench.BENCHED if what == "attacks" else attack_bench.PARITY
    if what == "transfer":
        _bench_transfer(attacks, examples, out, save, json)
        return
    with answer_alone(json):
        measured = attack_bench.bench(out, attacks, models, examples, repeats, budgets, save)
    if json:
        print_json(attack_bench.as_rows(measured))
        return
    console.print(attack_bench.printed(measured))
    also = tuple(name for name in attacks if name in transfer_bench.BUDGETS)
    if what == "parity" and (also or not attacks):
        _bench_transfer(also, examples, out, save and save.with_name("attack_transfer.json"), json)


def _check_places(out: Path, save: Path | None) -> None:
    """Raises `UserError` where the models have no place, and where --save is a file of something else."""
    if files.is_there(out) and not files.is_folder(out):
        raise UserError(f"--out {out} is a file: expected a folder for the models")
    if save is None or not files.is_there(save):
        return
    try:
        right = "rows" in json_format.loads(files.read_regular(save))
    except (ValueError, TypeError):
        right = False
    if not right:
        raise UserError(f"--save {save} is there and holds no benchmark: choose another file")


def _bench_transfer(attacks: tuple[str, ...], examples: int, out: Path, save: Path | None, json: bool) -> None:
    """What `grfd bench transfer` does, and `grfd bench parity` at its end."""
    with answer_alone(json):
        measured = transfer_bench.bench(out, attacks, examples)
    if save is not None:
        transfer_bench.save(save, measured, examples)
    if json:
        print_json(transfer_bench.as_rows(measured))
    else:
        console.print(transfer_bench.printed(measured))


def bench_train(
    name: tyro.conf.Positional[str],
    *,
    batch: Count | None = None,
    steps: Steps = 10,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: Literal["auto", "cpu"] = "auto",
    json: bool = False,
) -> None:
    """Time a step of stage I: images a second, operations a second beside the device's own rate, peak memory.

    Args:
        name: A preset; its images are random here, of the data set's shape.
        batch: Images a step (the preset's where it is not given).
        steps: Timed steps; the median is shown.
        precision: Of the network's passes.
        device: auto takes the accelerator that is there.
        json: Print the row instead.
    """
    config = preset(name, precision=precision, device=device, **({} if batch is None else {"batch": batch}))
    with answer_alone(json):
        rate = train_bench.bench(config, steps)
    if json:
        print_json(train_bench.as_row(rate))
    else:
        console.print(train_bench.printed(rate))


def reproduce(
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


def sweep(
    *,
    scale: str = "quick",
    seed: Seed = 0,
    epsilon: tuple[float, ...] = (),
    gamma: tuple[float, ...] = (),
    delta: tuple[float, ...] = (),
    out: Path = Path("runs/variants"),
    storage: str | None = None,
    study: str = "table2",
    objective: Literal["worst", "clean-and-worst"] = "worst",
    pruner: Literal["none", "median"] = "none",
    trials: Count | None = None,
    dry_run: bool = False,
) -> None:
    """Try the grid of Table 2, or a part of it; the same command on more machines shares the work (docs/sweeps.md).

    Args:
        scale: quick, short or paper: the schedule that each point is trained and judged by.
        seed: Of all points.
        epsilon: Some of 0, 0.1 … 0.7 (all where none is named).
        gamma: Some of 0, 0.1 … 0.7.
        delta: Some of 0, 0.2 … 1.4.
        out: The folder of the trainings, shared with grfd reproduce.
        storage: The study's database, as an SQLAlchemy URL; a SQLite file in --out where it is not given.
        study: Its name in the database.
        objective: What is looked for, under adaptive: the worst case, or clean accuracy and worst case.
        pruner: median ends a point that is below the median after an attack, before the dearer ones.
        trials: Points that this worker takes at most (until none is left where it is not given).
        dry_run: Count the points and those that are done, and do nothing.
    """
    from grfd.experiments import database  # optuna takes a second to import
    from grfd.experiments import sweep as sweeping

    todo = sweeping.points(epsilon=epsilon, gamma=gamma, delta=delta)
    url = storage or sweeping.default_storage(out)
    settings = sweeping.checked(sweeping.Sweep(out, scale, seed, url, study, objective, pruner))
    with database.errors_of(url):
        if dry_run:
            asked = f"{len(todo)} points at {scale}, seed {seed}, for {objective}"
            console.print(f"{asked}; in {masked(url)}: {sweeping.known(settings)}")
            return
        opened = sweeping.opened(settings, todo)
        sweeping.work(settings, opened, todo, trials)
        console.print(printed(sweeping.best(opened, objective)))
        console.print(", ".join(f"{count} {name}" for name, count in sweeping.state(opened).items() if count))
