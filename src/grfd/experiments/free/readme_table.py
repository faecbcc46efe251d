"""The README's table: GRFD free beside no defense, GRFD as published, its control, its baselines and its references."""

from collections.abc import Sequence
from pathlib import Path

from grfd.evaluation.case import SOURCE
from grfd.evaluation.numbers import grid, rows
from grfd.evaluation.paired import attacks_on, held_text
from grfd.evaluation.spread import cell_text
from grfd.evaluation.stored import read_checks
from grfd.report.sheets import Sheet

_TITLES = {
    SOURCE: "none",
    "grfd": "GRFD as published",
    "bit-depth": "B-DR",
    "randomized-smoothing": "R.S.",
    "gradient-regularisation": "G.R.",
    "cure": "CURE",
    "cure-from-start": "CURE from fresh weights",
    "gradient-norm": "GRFD free's penalty on LeNet5 alone",
    "control-lenet": "control, small G",
    "control-lenet-more-gradients": "control, small G, more gradients",
    "free-lenet": "GRFD free, small G",
    "free-lenet-more-epochs": "GRFD free, small G, twice the epochs",
    "control": "control, residual G",
    "control-more-gradients": "control, residual G, more gradients",
    "free-random-directions": "GRFD free, residual G, random directions",
    "free": "GRFD free, residual G",
    "free-more-epochs": "GRFD free, residual G, twice the epochs",
    "pgd-at": "PGD-AT (trains on adversarial examples)",
    "trades": "TRADES (trains on adversarial examples)",
}
"""Contender → its name in the README, in the order of the table."""


def free_sheet(folders: Sequence[Path]) -> Sheet:
    """Clean accuracy and worst case under `adaptive` of each contender that all seeds have; its flags."""
    judged = [name for name in _TITLES if attacks_on(folders, name)]
    attacks = attacks_on(folders, *judged)
    grids = [grid(rows(folder)) for folder in folders]
    flagged = {check.model for folder in folders for check in read_checks(folder) if check.flagged}
    lines = [
        [_TITLES[name], cell_text(grids, "adaptive", name, "none"), held_text(folders, name, attacks),
         "yes" if name in flagged else "no"]
        for name in judged
    ]  # fmt: skip
    return Sheet(["defense", "clean", "`adaptive`, worst case", "flagged"], lines)
