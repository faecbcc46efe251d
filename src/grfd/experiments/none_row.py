"""The None row of Table 3 on MNIST: is there a standard recipe whose undefended LeNet5 falls as far as the paper's?

Claim: without a defense 99.18 % clean, 76.63 FGSM, 58.52 PGD, 38.47 AA, 58.8 EOTPGD, 54.51 VMIFGSM. The strength of a
transferred attack depends on its source, so that the other rows hang on this one. AA is TorchAttacks' ten-step variant
here, which the paper must have run.
Cost: `grfd reproduce none-row --scale paper --dry-run` says it, cell by cell.
Command: `grfd reproduce none-row --scale paper`.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from grfd import runs
from grfd.api import evaluating as judgement
from grfd.api import fitting as api
from grfd.config import PRESETS, Config
from grfd.defenses import standard
from grfd.evaluation import records
from grfd.evaluation.numbers import narrow_titles
from grfd.experiments.cells import Cell
from grfd.experiments.none_row_section import distance, found, published
from grfd.experiments.paper import PAPER_ATTACKS

SCALES = ("quick", "paper")
FOLDER = "none-row"

RECIPES: dict[str, dict[str, Any]] = {
    "the preset's": {},
    "5 epochs": {"classifier_epochs": 5},
    "60 epochs": {"classifier_epochs": 60},
    "batch 64": {"batch": 64},
    "learning rate 0.01": {"classifier_learning_rate": 1e-2},
    "learning rate 0.0001": {"classifier_learning_rate": 1e-4},
    "weight decay 0": {"weight_decay": 0.0},
    "weight decay 1": {"weight_decay": 1.0},
    "60 epochs at 0.01": {"classifier_epochs": 60, "classifier_learning_rate": 1e-2},
    "60 epochs at 0.01 in batches of 64": {"classifier_epochs": 60, "classifier_learning_rate": 1e-2, "batch": 64},
}
"""What each changes of the recipe of the paper's preset: 20 epochs, AdamW at 0.001 and 0.01, batch 256.

First one thing at a time; then together those that came nearer to the paper.
"""
MINUTES = {"quick": 0.4, "paper": 8.0}
"""Training and attack of one recipe on one core, as measured; 60 epochs take 4 more."""

SHORT = {"aa_torchattacks": "AA*"}
"""Narrower, so that the table fits eighty columns."""

_PARTS: dict[str, tuple[tuple[str, ...], int, Config]] = {
    "quick": (("the preset's", "weight decay 1"), 200, PRESETS["quick"]),
    "paper": (tuple(RECIPES), 1000, PRESETS["mnist-lenet5"]),
}
"""Scale → recipes, images that are attacked, configuration."""


def folder_of(out: Path, scale: str, recipe: str, seed: int) -> Path:
    return out / f"none-row-{scale}-{recipe.replace(' ', '-').replace(chr(39), '')}-seed-{seed}"


def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
    """Training and attack of each recipe, seed by seed."""
    recipes, examples, config = _PARTS[scale]
    todo = []
    for seed in range(seeds):
        for recipe in recipes:
            folder = folder_of(out, scale, recipe, seed)
            settings = replace(config, seed=seed, **RECIPES[recipe])
            done = partial(_is_done, folder, examples)
            do = partial(_do, folder, settings, examples)
            todo.append(Cell(f"seed {seed}: {recipe}", MINUTES[scale], done, do))
    return todo


def _is_done(folder: Path, examples: int) -> bool:
    stored = [records.read_record(records.path_of(folder, "standard", "whitebox", attack)) for attack in PAPER_ATTACKS]
    return all(record is not None and len(record) >= examples for record in stored)


def _do(folder: Path, config: Config, examples: int) -> None:
    with runs.locked(folder):
        job = api.prepare(folder, config)
        standard.fit(job)
    judgement.evaluate(folder, ("whitebox",), PAPER_ATTACKS, examples)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """Each recipe's row, white-box, beside the paper's, and how far it is from it."""
    table = Table("recipe", "seed", "clean", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in PAPER_ATTACKS:
        table.add_column(SHORT.get(name, narrow_titles()[name]), justify="right")
    table.add_column("off by", justify="right")
    for recipe in _PARTS[scale][0]:
        for seed in range(seeds):
            row = found(folder_of(out, scale, recipe, seed))
            table.add_row(recipe, str(seed), *(f"{value:.1f}" for value in row.values()), f"{distance(row):.1f}")
    table.add_row("paper", "", *(f"{value:.1f}" for value in published().values()), "")
    return [
        table,
        "off by: the largest distance from the paper over the five attacks, in points. AA*: TorchAttacks' variant",
    ]
