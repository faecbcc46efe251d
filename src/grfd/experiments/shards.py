"""Division of experiments among machines that share a folder: whole seeds of an experiment, dealt out in turn.

A seed's cells build on each other, and no cell builds on one of another seed. Experiments on variants of GRFD share
trainings, so that a seed of all of them is one share.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grfd.errors import UserError
from grfd.experiments.cells import Cell, Experiment


@dataclass(frozen=True)
class Shard:
    """The `number`-th of `count` machines, counted from 1."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class Planned:
    """An experiment with the folder of its runs, its scale, and its cells."""

    name: str
    experiment: Experiment
    folder: Path
    scale: str
    cells: list[Cell]


def shard_of(text: str) -> Shard:
    """Reads 2/3 as the second of three. Raises `UserError` for anything else."""
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    number, count = (int(each) for each in found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--shard must be K/N with K from 1 to N, such as 2/3, got {text!r}")
    return Shard(number, count)


def part_of(planned: Sequence[Planned], shard: Shard) -> list[Planned]:
    """The cells that a machine does, experiment by experiment. Those of which it does nothing are left out."""
    shares = dict.fromkeys((each.folder, _seed_of(cell)) for each in planned for cell in each.cells)
    mine = {share for index, share in enumerate(shares) if index % shard.count == shard.number - 1}
    parts = [replace(each, cells=[cell for cell in each.cells if (each.folder, _seed_of(cell)) in mine])
             for each in planned]  # fmt: skip
    return [part for part in parts if part.cells]


def _seed_of(cell: Cell) -> str:
    """What the name of every cell opens with, such as seed 0."""
    return cell.name.partition(":")[0]
