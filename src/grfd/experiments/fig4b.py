"""Figure 4b: GRFD trained on 10 to 100 % of the images.

Claim: with 10 % of the images 95.20 % clean and 87.32 % on average over five attacks, against 98.82 and 93.69 with all.
The standard model, on which transferred examples are made, has seen all images.
Cost: `grfd reproduce fig4b --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce fig4b --scale short --seeds 3`.
"""

from pathlib import Path

from rich.table import Table

from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.variant_figures import draw_figure_4b
from grfd.experiments.variant_numbers import IMAGES, SHARES, figure_4b
from grfd.experiments.variants import FOLDER, SCALES, SCHEDULES, Variant, judged
from grfd.report.sheets import printed, write

__all__ = ["FOLDER", "SCALES", "cells", "show"]


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """Training on each share, and their judgement, seed by seed."""
    config = SCHEDULES[scale].config
    images = config.train_examples or IMAGES[config.data]
    parts = [Variant({} if share == 100 else {"train_examples": images * share // 100}) for share in SHARES]
    return variants.cells(out, scale, seeds, parts, data_dir)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers, and fig4b.png and .pdf."""
    found = judged(out, scale, seeds)
    sheet = figure_4b(found)
    write(sheet, out / "fig4b")
    return [printed(sheet), f"drawn {draw_figure_4b(found, out / 'fig4b')[0]}"]
