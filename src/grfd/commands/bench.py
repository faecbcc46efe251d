"""Benchmarks: attacks compared with other libraries, transferred examples, and the speed of training."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import tyro

from grfd import files
from grfd.bench.attacks import PARITY_BUDGETS, SPEED_BUDGETS, Comparison, compare, comparison_table
from grfd.bench.passes import PASSES_MODELS, PassesRequest, measure_passes, passes_table, proof_table, proofs
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
        "it has models of its own, and no times are measured",
    ),
    Mode(
        "grfd bench passes",
        lambda asked: asked["what"] == "passes",
        ("repeats", "out"),
        "each attack runs once, on models of committed runs",
    ),
    Mode(
        "grfd bench without passes",
        lambda asked: asked["what"] != "passes",
        ("data_dir",),
        "its models are trained on MNIST, which is part of the package",
    ),
)
"""Ways of calling `grfd bench` in which some of its options have no effect."""


def bench_command(
    what: tyro.conf.Positional[Literal["attacks", "parity", "transfer", "passes"]],
    *,
    attacks: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    examples: Examples = 500,
    repeats: Count = 3,
    out: Path = Path("runs/bench"),
    save: Path | None = None,
    data_dir: Path | None = None,
    json: bool = False,
) -> None:
    """Compare attacks with those of other installed libraries: running time, and robust accuracy after the attack.

    Args:
        what: attacks: the speed of seven attacks at full length. parity: all attacks that another library has as well,
            shorter, and then transfer. transfer: examples that are made on one network and given to another. passes:
            what each attack leaves of a model, by the number of images that the model classifies for it.
        attacks: Some of the attacks. The default is all.
        models: The models to attack. The default is all. For attacks and parity, they are trained once, on MNIST, and
            kept in --out. For passes, each is the folder of a run, a slash, and the name of a defense.
        examples: Number of test images to attack, counted from the first.
        repeats: Number of runs. The median is printed.
        out: Folder for the models.
        save: A JSON file to which rows, machine and versions are added. Rows that it contains are not measured again.
        data_dir: Folder of CIFAR's files, for passes on models of CIFAR runs.
        json: Print the rows as JSON: library, attack, model, examples, seconds, robust, and repeats or passes.
    """
    _check_places(out, save)
    if what == "passes":
        _bench_passes(PassesRequest(models or PASSES_MODELS, attacks, examples, save, data_dir), json)
        return
    for name in models:
        if name not in VICTIM_RECIPES:
            raise UserError(f"unknown model {name!r}: expected one of {', '.join(VICTIM_RECIPES)}")
    budgets = SPEED_BUDGETS if what == "attacks" else PARITY_BUDGETS
    if what == "transfer":
        _bench_transfer(attacks, examples, out, save, json)
        return
    with answer_alone(json):
        measured = compare(Comparison(budgets, attacks, models or tuple(VICTIM_RECIPES), examples, repeats), out, save)
    if json:
        print_json([asdict(line) for line in measured])
        return
    console.print(comparison_table(measured))
    also = tuple(name for name in attacks if name in TRANSFER_BUDGETS)
    if what == "parity" and (also or not attacks):
        _bench_transfer(also, examples, out, save and save.with_name("attack_transfer.json"), json)


def _check_places(out: Path, save: Path | None) -> None:
    """Raises `UserError` if --out is not a folder, or if --save is a file of another kind."""
    if files.is_there(out) and not files.is_folder(out):
        raise UserError(f"--out {out} is a file: expected a folder for the models")
    if save is None or not files.is_there(save):
        return
    try:
        right = "rows" in json_format.loads(files.read_regular(save))
    except (ValueError, TypeError):
        right = False
    if not right:
        raise UserError(f"--save {save} is there and contains no benchmark: choose another file")


def _bench_passes(request: PassesRequest, json: bool) -> None:
    with answer_alone(json):
        measured = measure_passes(request)
    if json:
        print_json([asdict(row) for row in measured])
        return
    console.print(passes_table(measured))
    for attack in ("a3", "quick"):
        if lines := proofs(measured, attack):
            console.print(proof_table(lines))


def _bench_transfer(attacks: tuple[str, ...], examples: int, out: Path, save: Path | None, json: bool) -> None:
    """Does `grfd bench transfer`, which is also the last part of `grfd bench parity`."""
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
    """Measure a training step of stage I: images per second, operations per second, and peak memory.

    Operations per second are compared with the highest rate that the device reaches in matrix products.

    Args:
        name: A preset. Images are random, in the shape of its data set.
        batch: Images per step. The default is the preset's.
        steps: Number of measured steps. The median is printed.
        precision: Precision of forward and backward passes.
        device: auto uses the accelerator if there is one.
        json: Print the result as JSON.
    """
    config = preset(name, precision=precision, device=device, **({} if batch is None else {"batch": batch}))
    with answer_alone(json):
        rate = measure_stage_one(config, steps)
    if json:
        print_json(as_row(rate))
    else:
        console.print(rate_table(rate))
