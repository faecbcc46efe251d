"""The last section of the page: what the committed experiments cost, as far as it was measured."""

from pathlib import Path

from grfd.experiments import EXPERIMENTS
from grfd.experiments.minutes import all_minutes
from grfd.report.sheets import Sheet, markdown


def costs_section(results: Path) -> list[str]:
    """A line for each scale of each experiment, and the total; empty if no times are kept."""
    lines, total = [], 0.0
    for folder in dict.fromkeys(each.FOLDER for each in EXPERIMENTS.values()):
        for scale, cells in all_minutes(results / folder).items():
            minutes = sum(cell["minutes"] for cell in cells.values())
            machines = sorted({f"{cell['processors']} cores, {_threads(cell['threads'])}" for cell in cells.values()})
            lines.append([folder, scale, str(len(cells)), f"{minutes:.0f}", "; ".join(machines)])
            total += minutes
    if not lines:
        return []
    text = (
        "The minutes of each cell were measured while it ran, often beside another process. Experiments whose records "
        "are older than this measurement have no line. `grfd reproduce NAME --dry-run` prints the cells one by one."
    )
    lines.append(["all", "", "", f"{total:.0f}", ""])
    sheet = Sheet(["experiment", "scale", "cells", "minutes", "measured on"], lines, left=2)
    return ["## What the experiments cost", text, markdown(sheet)]


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
