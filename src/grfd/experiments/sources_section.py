"""What transferred attacks leave of GRFD and of no defense, by source: from the records of `grfd reproduce sources`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation.numbers import column_titles, grid, rows
from grfd.evaluation.spread import averages, spread, values
from grfd.experiments.paper import PAPER_ATTACKS, TABLE_3
from grfd.report.sheets import Sheet, markdown

FOLDERS = "sources-paper-seed"
"""Beginning of the folder names in results/: sources-paper-seed-N/from-RECIPE."""
VICTIMS = {"undefended": "no defense", "grfd": "GRFD"}


def folder_of(out: Path, scale: str, seed: int, recipe: str) -> Path:
    return out / f"{scale}-seed-{seed}" / f"from-{recipe.replace(' ', '-').replace(chr(39), '')}"


def sources_sheet(found: Mapping[str, Sequence[Path]]) -> Sheet:
    """Recipe of the source → a folder a seed. A line for the source itself, white-box, and one a victim."""
    lines = []
    for recipe, folders in found.items():
        grids = [grid(rows(folder)) for folder in folders]
        for protocol, model, label in (
            ("whitebox", "source", "itself, white-box"),
            *(("transfer", victim, label) for victim, label in VICTIMS.items()),
        ):
            numbers = [spread(values(grids, protocol, model, name)) for name in ("none", *PAPER_ATTACKS)]
            lines.append([recipe, label, *numbers, spread(averages(grids, protocol, model, PAPER_ATTACKS))])
    for model, label in (("standard", "None"), ("grfd", "GRFD")):
        printed = TABLE_3["mnist"][model]
        mean = sum(printed[name] for name in TABLE_1_ATTACKS) / len(TABLE_1_ATTACKS)
        lines.append(["paper", label, *(f"{printed[name]:.1f}" for name in ("none", *TABLE_1_ATTACKS)), f"{mean:.1f}"])
    header = ["attacks made on", "and shown to", "clean", *(column_titles()[name] for name in PAPER_ATTACKS), "average"]
    return Sheet(header, lines, "What a transferred attack leaves", left=2)


def _recipe(name: str) -> str:
    """Of a folder that `folder_of` names."""
    return name.removeprefix("from-").replace("-", " ").replace("presets", "preset's")


def section(results: Path) -> list[str]:
    """Heading, table and what it says; nothing where no such records are committed."""
    seeds = sorted(results.glob(f"{FOLDERS}-*"))
    if not seeds:
        return []
    names = sorted(path.name for path in seeds[0].glob("from-*"))
    found = {_recipe(name): [seed / name for seed in seeds] for name in names}
    return [
        "### What a transferred attack leaves, by the model that it was made on",
        "`grfd reproduce sources --scale paper`, 1,000 images: the attacks of Table 1 made on an undefended LeNet5 of "
        "another seed than the victims', trained by the recipe that is named, and then shown to GRFD (150 epochs of "
        "stage I) and to an undefended LeNet5 of the preset's recipe.",
        markdown(sources_sheet(found)),
    ]
