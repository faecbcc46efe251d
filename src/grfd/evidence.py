"""The commands by which a reader checks our numbers: benchmarks, the paper's tables and figures, and the pages."""

import json as json_format
from pathlib import Path
from typing import Literal

import tyro

from grfd.config import preset
from grfd.errors import UserError
from grfd.experiments import EXPERIMENTS, attack_bench, cells, train_bench
from grfd.experiments.victims import VICTIMS
from grfd.progress import console
from grfd.report.attacks_page import write_attacks_page
from grfd.report.page import write_page
from grfd.report.sheets import printed


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
    what: tyro.conf.Positional[Literal["attacks", "parity"]],
    *,
    attacks: tuple[str, ...] = (),
    models: tuple[str, ...] = tuple(VICTIMS),
    examples: int = 500,
    repeats: int = 3,
    out: Path = Path("runs/bench"),
    save: Path | None = None,
    json: bool = False,
) -> None:
    """Run our attacks beside those of other libraries that are installed: seconds, and the robust accuracy left.

    Args:
        what: attacks: the speed of seven of them at full length. parity: all that some library has too, shorter.
        attacks: A part of them (all where none is named).
        models: Of lenet5, "lenet5 adversarially trained", "residual net": trained once, on MNIST, then kept in --out.
        examples: Attack the first so many test images.
        repeats: Runs of each; the median is shown.
        out: Folder for the models.
        save: A JSON file for the rows, with machine and versions; it grows, and what is in it is not measured again.
        json: Print the rows instead: library, attack, model, examples, repeats, seconds, robust.
    """
    budgets = attack_bench.BENCHED if what == "attacks" else attack_bench.PARITY
    measured = attack_bench.bench(out, attacks, models, examples, repeats, budgets, save)
    if json:
        print(json_format.dumps(attack_bench.as_rows(measured), indent=2))
    else:
        console.print(attack_bench.printed(measured))


def bench_train(
    name: tyro.conf.Positional[str],
    *,
    batch: int | None = None,
    steps: int = 10,
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
    rate = train_bench.bench(config, steps)
    if json:
        print(json_format.dumps(train_bench.as_row(rate), indent=2))
    else:
        console.print(train_bench.printed(rate))


def reproduce(
    name: tyro.conf.Positional[str | None] = None,
    *,
    dataset: Literal["mnist", "cifar10", "cifar100"] = "mnist",
    data_dir: Path | None = None,
    scale: str = "quick",
    seeds: int = 1,
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
    if list or name is None:
        for paragraph in cells.listed(EXPERIMENTS, scale, seeds):
            console.print(paragraph, markup=True)
        return
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment {name!r}: expected one of {', '.join(EXPERIMENTS)}")
    experiment, folder = EXPERIMENTS[name], out or Path("runs") / EXPERIMENTS[name].FOLDER
    scale = scale if dataset == "mnist" else f"{dataset}-{scale}"
    cells.check(experiment, scale, seeds)
    if data_dir is not None and dataset == "mnist":
        raise UserError("--data-dir is for CIFAR: MNIST comes with the package")
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
    seed: int = 0,
    epsilon: tuple[float, ...] = (),
    gamma: tuple[float, ...] = (),
    delta: tuple[float, ...] = (),
    out: Path = Path("runs/variants"),
    storage: str | None = None,
    study: str = "table2",
    objective: Literal["worst", "clean-and-worst"] = "worst",
    pruner: Literal["none", "median"] = "none",
    trials: int | None = None,
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
    from grfd.experiments import sweep as sweeping  # optuna takes a second to import

    todo = sweeping.points(epsilon=epsilon, gamma=gamma, delta=delta)
    url = storage or sweeping.default_storage(out)
    settings = sweeping.checked(sweeping.Sweep(out, scale, seed, url, study, objective, pruner))
    if dry_run:
        console.print(f"{len(todo)} points at {scale}; in {url}: {sweeping.known(settings)}")
        return
    opened = sweeping.opened(settings, todo)
    sweeping.work(settings, opened, todo, trials)
    console.print(printed(sweeping.best(opened, objective)))
    console.print(", ".join(f"{count} {name}" for name, count in sweeping.state(opened).items() if count))
