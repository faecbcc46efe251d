"""The None row beside the paper's: what recipes for an undefended LeNet5 gave, from records in results/."""

from pathlib import Path

from grfd.evaluation.numbers import column_titles, grid, rows
from grfd.experiments.paper import PAPER_ATTACKS, TABLE_3
from grfd.report.sheets import Sheet, markdown

FOLDERS = "none-row"
"""Beginning of the folder names in results/: none-row-SCALE-RECIPE-seed-N."""


def published() -> dict[str, float]:
    """The paper's, in per cent; its AA is set beside TorchAttacks' variant."""
    row = TABLE_3["mnist"]["standard"]
    return {"none": row["none"]} | {name: row["aa" if name == "aa_torchattacks" else name] for name in PAPER_ATTACKS}


def found(folder: Path) -> dict[str, float]:
    """Ours, white-box, in per cent."""
    cells = grid(rows(folder))["whitebox", "standard"]
    return {name: 100 * cells[name].accuracy for name in ("none", *PAPER_ATTACKS)}


def distance(row: dict[str, float]) -> float:
    """The largest distance from the paper over the five attacks, in points."""
    return max(abs(row[name] - published()[name]) for name in PAPER_ATTACKS)


def _named(folder: Path) -> str:
    """ "60 epochs at 0.01, seed 0" of none-row-paper-60-epochs-at-0.01-seed-0."""
    recipe, _, seed = folder.name.removeprefix(f"{FOLDERS}-").partition("-")[2].rpartition("-seed-")
    return f"{recipe.replace('-', ' ')}, seed {seed}"


def section(results: Path) -> list[str]:
    """Heading, table and verdict; nothing where no such run is committed."""
    folders = sorted(results.glob(f"{FOLDERS}-*"))
    if not folders:
        return []
    ours = {_named(folder): found(folder) for folder in folders}
    nearest = min(ours, key=lambda name: distance(ours[name]))
    lines = [
        [name, *(f"{value:.1f}" for value in row.values()), f"{distance(row):.1f}"]
        for name, row in sorted(ours.items(), key=lambda each: -distance(each[1]))
    ]
    lines.append(["paper", *(f"{value:.1f}" for value in published().values()), ""])
    sheet = Sheet(["recipe", "clean", *(column_titles()[name] for name in PAPER_ATTACKS), "furthest"], lines)
    row, paper = ours[nearest], published()
    away = ", ".join(f"{row[name] - paper[name]:+.1f} {column_titles()[name]}" for name in PAPER_ATTACKS)
    told = f"The nearest recipe, {nearest}, is within {distance(row):.1f} points of the paper ({away}). "
    return [
        "### The None row: a recipe near the paper's",
        "`grfd reproduce none-row --scale paper`, `whitebox`, 1,000 images; a recipe is named by what it changes of "
        "the preset's (20 epochs, AdamW at 0.001, weight decay 0.01, batch 256). *Furthest* is the largest distance "
        "from the paper over the five attacks.",
        markdown(sheet),
        told
        + "The strength of a transferred attack depends on the model that it was made on; the tables above have the "
        "preset's recipe for it, which withstands more.",
    ]
