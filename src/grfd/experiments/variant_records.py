"""The records of variants of GRFD over seeds, which Table 2, Figures 2, 4a and 4b and the ablation of readings share.

Each seed has one folder of records (`judged/` of `grfd reproduce`, or its copy in results/). Its variants.json says
what each variant changes in the configuration. A variant is looked up by what it changes, never by its name.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation.numbers import column_titles, grid, rows
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.spread import Grid, averages, averages_text, cell_text, values
from grfd.evaluation.stored import read_evaluation
from grfd.experiments.records import config_of, early_note, kept_name

VARIANTS_FILE = "variants.json"
"""Variant → changed fields of the configuration, deployed model, last epoch of stage I, seconds, how it diverged."""


@dataclass(frozen=True)
class VariantRecords:
    """The records of one schedule: for each seed its folder, its numbers and the content of its variants.json."""

    folders: list[Path]
    grids: list[Grid]
    variants: list[dict[str, dict[str, Any]]]


def read_variants(folders: Sequence[Path]) -> VariantRecords:
    """Reads the records of one folder for each seed."""
    variants = [json.loads((folder / VARIANTS_FILE).read_text()) for folder in folders]
    return VariantRecords(list(folders), [grid(rows(folder)) for folder in folders], variants)


def committed_folders(results: Path) -> list[Path]:
    """The folders in results/ that the page is made of, one for each seed."""
    return [
        folder
        for folder in sorted((results / "variants").glob("short-seed-*/judged"))
        if (folder / VARIANTS_FILE).exists()
    ]


def committed_variants(results: Path) -> VariantRecords | None:
    """The records that are committed; None if there are none."""
    folders = committed_folders(results)
    return _read_committed(tuple(folders)) if folders else None


@lru_cache(maxsize=1)
def _read_committed(folders: tuple[Path, ...]) -> VariantRecords:
    """Reads thousands of files, and therefore only once for all sections and figures of a page."""
    return read_variants(folders)


def find_variant(records: VariantRecords, changes: dict[str, Any] | None) -> str | None:
    """The variant with exactly these changes ("standard" if `changes` is None); None if no seed has it."""
    if changes is None:
        return "standard"
    wanted = {"deployed": "target", **changes}
    for variants in records.variants:
        for name, about in variants.items():
            if about["changes"] | {"deployed": about["deployed"]} == wanted:
                return name
    return None


def attacks_of(records: VariantRecords) -> list[str]:
    """The attacks of Table 1 that were run for at least one seed."""
    return [name for name in TABLE_1_ATTACKS if any(name in cells for each in records.grids for cells in each.values())]


def accuracies(records: VariantRecords, protocol: str, model: str) -> list[list[float]]:
    """Clean, each attack, their average and the worst case, in per cent; one value for each seed."""
    attacks = attacks_of(records)
    get = partial(values, records.grids, protocol, model)
    return [
        get("none"),
        *(get(name) for name in attacks),
        averages(records.grids, protocol, model, attacks),
        get("worst"),
    ]


def accuracy_texts(records: VariantRecords, protocol: Protocol, model: str) -> list[str]:
    """The columns of `accuracies` as mean ± standard deviation over seeds, with 95 % intervals by image."""
    get, attacks = partial(cell_text, records.grids, protocol, model), attacks_of(records)
    average = averages_text(records.grids, protocol, model, attacks)
    return [get("none"), *(get(name) for name in attacks), average, get("worst")]


def accuracy_titles(records: VariantRecords) -> list[str]:
    """The titles of the columns of `accuracies`."""
    return ["clean", *(column_titles()[name] for name in attacks_of(records)), "average", "worst case"]


def means(columns: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each column over the seeds; NaN if it is empty."""
    return [statistics.mean(each) if each else float("nan") for each in columns]


def deviations(columns: Sequence[Sequence[float]]) -> list[float]:
    """The standard deviation of each column over the seeds; 0 if there is one seed."""
    return [statistics.stdev(each) if len(each) > 1 else 0.0 for each in columns]


def shared_opening(records: VariantRecords) -> str:
    """The heading of all sections on variants, and the schedule that their numbers share."""
    config, evaluated = config_of(records.folders[0]), read_evaluation(records.folders[0], "examples")
    count = len(records.folders)
    seeds = f"{count} seeds, mean ± standard deviation" if count > 1 else "one seed"
    attacks = ", ".join(column_titles()[name] for name in attacks_of(records))
    return (
        "## GRFD's parts and weights on a short schedule\n\n"
        f"Stage I was trained for {config['epochs']} epochs at a learning rate of {config['learning_rate']:g}, the "
        f"classifiers for {config['classifier_epochs']} epochs, with {config['latent']} latent variables ({seeds}). "
        f"Every model was attacked on {evaluated['examples']} test images with {attacks}; AA is the standard "
        "AutoAttack. *Average* is the mean over these attacks. The paper trains stage I for 150 epochs, so its numbers "
        "belong to another schedule, but all rows here share one. Records: "
        f"`results/{kept_name(records.folders[0])}` and the folders of the other seeds."
        + "".join(f"\n\n{note}" for note in early_note(records.folders))
    )
