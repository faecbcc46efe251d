"""Figure 4a: the ablation of GRFD's parts, four cases.

Claim: without the RSM (case 2) or without the rectification head (case 3) little is left of the robustness of the whole
(case 4); a single part may be worse than no defense (case 1).
Cost: `grfd reproduce fig4a --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce fig4a --scale short --seeds 3`.
"""

from pathlib import Path

from rich.table import Table

from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.variant_figures import draw_figure_4a
from grfd.experiments.variant_numbers import CASES, figure_4a
from grfd.experiments.variants import FOLDER, SCALES, Variant, judged
from grfd.report.sheets import printed, write

__all__ = ["FOLDER", "SCALES", "cells", "show"]


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """Training of cases 2 to 4, and their judgement beside case 1, seed by seed."""
    parts = [Variant(changes) for changes in CASES.values() if changes is not None]
    return variants.cells(out, scale, seeds, parts, data_dir)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers, and fig4a.png and .pdf."""
    found = judged(out, scale, seeds)
    sheet = figure_4a(found)
    write(sheet, out / "fig4a")
    return [printed(sheet), f"drawn {draw_figure_4a(found, out / 'fig4a')[0]}"]
