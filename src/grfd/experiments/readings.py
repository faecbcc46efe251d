"""Our readings of the paper's gaps on MNIST: each alternative as one change of the default.

Claim: none of the paper's; where it is silent or contradicts itself, this says which gap matters and which does not.
Cost: `grfd reproduce readings --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce readings --scale short --seeds 3`.
"""

from pathlib import Path
from typing import Any

from rich.table import Table

from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.variant_numbers import READINGS, readings
from grfd.experiments.variants import FOLDER, SCALES, Variant, judged
from grfd.report.sheets import printed, write

__all__ = ["FOLDER", "SCALES", "cells", "show"]


def _variant(changes: dict[str, Any]) -> Variant:
    fields = {name: value for name, value in changes.items() if name != "deployed"}
    return Variant(fields, changes.get("deployed", "target"))


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """Training of each reading, and their judgement, seed by seed."""
    return variants.cells(out, scale, seeds, [_variant(changes) for changes in READINGS.values()], data_dir)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers, reading by reading; the same in readings.md, .tex and .csv."""
    sheet = readings(judged(out, scale, seeds))
    write(sheet, out / "readings")
    return [printed(sheet), f"written {out / 'readings.md'}, .tex and .csv"]
