"""Benchmarks: attacks beside other libraries, transferred examples, training rates."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import tyro

from grfd import files
from grfd.bench.attacks import PARITY_BUDGETS, SPEED_BUDGETS, Comparison, compare, comparison_table
from grfd.bench.training import as_row, measure_stage_one, rate_table
from grfd.bench.transfer import TRANSFER_BUDGETS, measure_transfer, save_transfer, transfer_table
from grfd.bench.victims import VICTIM_RECIPES
from grfd.commands.arguments import Mode
from grfd.config import preset
from grfd.errors import UserError
from grfd.progress import answer_alone, console, print_json
from grfd.schema import Count, Examples, Steps

MODES: tuple[Mode, ...] = (
    Mode(
        "grfd bench transfer",
        lambda asked: asked["what"] == "transfer",
        ("models", "repeats"),
        "it has models of its own, and nothing is timed",
    ),
)
"""How `grfd bench` can be called, and which of its options do nothing then."""


def bench_command(
    what: tyro.conf.Positional[Literal["attacks", "parity", "transfer"]],
    *,
    attacks: tuple[str, ...] = (),
    models: tuple[str, ...] = tuple(VICTIM_RECIPES),
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
        if name not in VICTIM_RECIPES:
            raise UserError(f"unknown model {name!r}: expected one of {', '.join(VICTIM_RECIPES)}")
    budgets = SPEED_BUDGETS if what == "attacks" else PARITY_BUDGETS
    if what == "transfer":
        _bench_transfer(attacks, examples, out, save, json)
        return
    with answer_alone(json):
        measured = compare(Comparison(budgets, attacks, models, examples, repeats), out, save)
    if json:
        print_json([asdict(line) for line in measured])
        return
    console.print(comparison_table(measured))
    also = tuple(name for name in attacks if name in TRANSFER_BUDGETS)
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
        measured = measure_transfer(out, attacks, examples)
    if save is not None:
        save_transfer(save, measured, examples)
    if json:
        print_json([asdict(line) for line in measured])
    else:
        console.print(transfer_table(measured))


def bench_train_command(
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
        rate = measure_stage_one(config, steps)
    if json:
        print_json(as_row(rate))
    else:
        console.print(rate_table(rate))
