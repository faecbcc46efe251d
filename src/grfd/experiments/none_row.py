"""The None row of Table 3 on MNIST: which standard recipe makes an undefended LeNet5 as weak as the paper's?

Claim: without a defense 99.18 % clean, 76.63 FGSM, 58.52 PGD, 38.47 AA, 58.8 EOTPGD, 54.51 VMIFGSM. The strength of a
transferred attack depends on its source, so the other rows depend on this one. AA is TorchAttacks' variant of
AutoAttack with ten steps, which the paper must have run.
Cost: `grfd reproduce none-row --scale paper --dry-run` prints the cost of each cell.
Command: `grfd reproduce none-row --scale paper`.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from grfd import runs
from grfd.api import evaluating, fitting
from grfd.config import PRESETS, Config
from grfd.defenses import standard
from grfd.evaluation.numbers import column_titles, grid, narrow_titles, rows
from grfd.evaluation.spread import cell_text
from grfd.experiments.cells import Cell
from grfd.experiments.paper import PAPER_ATTACKS, TABLE_3
from grfd.experiments.records import are_complete
from grfd.report.sheets import Sheet, markdown

SCALES = ("quick", "paper")
FOLDER = "none-row"

_COMMITTED = "paper"
"""The scale of the records that the page is made of."""

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
"""Recipe → what it changes in that of the paper's preset: 20 epochs, AdamW at 0.001, weight decay 0.01, batch 256.

First come single changes, then combinations of those that came nearer to the paper.
"""

_NARROW = {"aa_torchattacks": "AA*"}
"""Narrower, so that the table fits eighty columns."""

_PARTS: dict[str, tuple[tuple[str, ...], int, Config]] = {
    "quick": (("the preset's", "weight decay 1"), 200, PRESETS["quick"]),
    "paper": (tuple(RECIPES), 1000, PRESETS["mnist-lenet5"]),
}
"""Scale → recipes, number of attacked images, configuration."""


def recipe_slug(recipe: str) -> str:
    """The name of a recipe as part of a folder's name."""
    return recipe.replace(" ", "-").replace("'", "")


def recipe_of_slug(slug: str) -> str:
    """The recipe whose folder has this name; the name itself if there is no such recipe any more."""
    return next((recipe for recipe in RECIPES if recipe_slug(recipe) == slug), slug)


def _recipe_folder(out: Path, scale: str, recipe: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}" / recipe_slug(recipe)


def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
    """The training and the attack of each recipe, for each seed."""
    recipes, examples, config = _PARTS[scale]
    todo = []
    for seed in range(seeds):
        for recipe in recipes:
            folder = _recipe_folder(out, scale, recipe, seed)
            settings = replace(config, seed=seed, **RECIPES[recipe])
            done = partial(are_complete, folder, "standard", "whitebox", PAPER_ATTACKS, examples)
            todo.append(
                Cell(f"seed {seed}: {recipe}", done, partial(_do, folder, settings, examples), independent=True)
            )
    return todo


def _do(folder: Path, config: Config, examples: int) -> None:
    with runs.locked(folder):
        job = fitting.prepare(folder, config)
        standard.fit(job)
    evaluating.evaluate(folder, ("whitebox",), PAPER_ATTACKS, examples)


def _paper_row() -> dict[str, float]:
    """The paper's row, in per cent. Its AA is compared with TorchAttacks' variant."""
    row = TABLE_3["mnist"]["standard"]
    return {"none": row["none"]} | {name: row["aa" if name == "aa_torchattacks" else name] for name in PAPER_ATTACKS}


def _our_row(folder: Path) -> dict[str, float]:
    """Our row under `whitebox`, in per cent."""
    row = grid(rows(folder))["whitebox", "standard"]
    return {name: 100 * row[name].accuracy for name in ("none", *PAPER_ATTACKS)}


def distance_to_paper(row: dict[str, float]) -> float:
    """The largest distance from the paper over the five attacks, in points."""
    return max(abs(row[name] - _paper_row()[name]) for name in PAPER_ATTACKS)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The row of each recipe under `whitebox` beside the paper's, and the distance between them."""
    table = Table("recipe", "seed", "clean", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in PAPER_ATTACKS:
        table.add_column(_NARROW.get(name, narrow_titles()[name]), justify="right")
    table.add_column("off by", justify="right")
    for recipe in _PARTS[scale][0]:
        for seed in range(seeds):
            row = _our_row(_recipe_folder(out, scale, recipe, seed))
            numbers = [f"{value:.1f}" for value in row.values()]
            table.add_row(recipe, str(seed), *numbers, f"{distance_to_paper(row):.1f}")
    table.add_row("paper", "", *(f"{value:.1f}" for value in _paper_row().values()), "")
    return [
        table,
        "off by: the largest distance from the paper over the five attacks, in points. AA*: TorchAttacks' variant",
    ]


def section(results: Path) -> list[str]:
    """A heading, the table and the nearest recipe, if such runs are committed."""
    prefix = f"{_COMMITTED}-seed-"
    folders = sorted((results / FOLDER).glob(f"{prefix}*/*/"))
    if not folders:
        return []
    names = {f"{recipe_of_slug(folder.name)}, seed {folder.parent.name.removeprefix(prefix)}": folder
             for folder in folders}  # fmt: skip
    ours = {name: _our_row(folder) for name, folder in names.items()}
    texts = {name: [cell_text([grid(rows(folder))], "whitebox", "standard", attack) for attack in ours[name]]
             for name, folder in names.items()}  # fmt: skip
    nearest = min(ours, key=lambda name: distance_to_paper(ours[name]))
    lines = [
        [name, *texts[name], f"{distance_to_paper(row):.1f}"]
        for name, row in sorted(ours.items(), key=lambda each: -distance_to_paper(each[1]))
    ]
    lines.append(["paper", *(f"{value:.1f}" for value in _paper_row().values()), ""])
    sheet = Sheet(["recipe", "clean", *(column_titles()[name] for name in PAPER_ATTACKS), "distance"], lines)
    row, paper = ours[nearest], _paper_row()
    differences = ", ".join(f"{row[name] - paper[name]:+.1f} {column_titles()[name]}" for name in PAPER_ATTACKS)
    return [
        "## The None row: which recipe comes near the paper's",
        "`grfd reproduce none-row --scale paper`, `whitebox`, 1,000 images. The name of a recipe says what it changes "
        "in that of the preset (20 epochs, AdamW at 0.001, weight decay 0.01, batch 256). *Distance* is the largest "
        "distance from the paper over the five attacks, in points.",
        markdown(sheet),
        f"The nearest recipe ({nearest}) is within {distance_to_paper(row):.1f} points of the paper ({differences}). "
        "The strength of a transferred attack depends on the model on which it was made. Table 3 uses the "
        "preset's recipe for that model, which is more robust.",
    ]
