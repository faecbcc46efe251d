"""Division of experiments among machines: each has whole seeds of its own and, in a shared folder, then helps others.

A seed's cells build on each other, and no cell builds on one of another seed. Experiments on variants of GRFD share
trainings, so that a seed of all of them is one share. Cells that are independent, mostly trainings, can be done by
several machines at once. Locks decide which machine does a cell, so that nothing is done twice. The operating system
releases the locks of a process that was killed, and then another machine goes on with its cell.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grfd.errors import Busy, UserError
from grfd.experiments.cells import Cell, Experiment, do
from grfd.folders import held, remove_empty
from grfd.progress import side

_LOCKS = "locks"
"""In the folder of an experiment: a folder for each cell that a machine is doing just now."""
_PAUSE = 5.0
"""Seconds between two looks at the work of other machines."""


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


def in_turn(planned: Sequence[Planned], shard: Shard) -> list[Planned]:
    """All cells in the order of a machine: its own, then those of the machines that follow it, in a circle."""
    numbers = [(shard.number - 1 + step) % shard.count + 1 for step in range(shard.count)]
    return [part for number in numbers for part in part_of(planned, Shard(number, shard.count))]


def run_together(parts: Sequence[Planned], store: Callable[[Planned, str, float], object]) -> None:
    """Does what no other machine is doing, until all is done.

    `store` is given the experiment, the name of each cell that was done here, and the minutes that it took.
    """
    for part in parts:
        for cell in part.cells:
            if not cell.done():
                cell.check()
    told: set[str] = set()
    while ready := _ready(parts):
        if any(_does(part, cell, store, told) for part, cell in ready):
            continue
        _tell(told, "waiting for another machine")
        time.sleep(_PAUSE)
    for folder in {part.folder / _LOCKS for part in parts}:
        remove_empty([*folder.glob("*"), folder])


def _ready(parts: Sequence[Planned]) -> list[tuple[Planned, Cell]]:
    """The cells that are to do, and for which what they need is done. None is ready only when all are done."""
    found = []
    for part in parts:
        done = {cell.name: cell.done() for cell in part.cells}
        found += [(part, cell) for cell in part.cells
                  if not done[cell.name] and all(done[each.name] for each in _needed(cell, part.cells))]  # fmt: skip
    return found


def _needed(cell: Cell, cells: Sequence[Cell]) -> Sequence[Cell]:
    """The cells of its seed before it or, for an independent one, before the first independent one."""
    of_seed = [each for each in cells if _seed_of(each) == _seed_of(cell)]
    first = next((each for each in of_seed if each.independent), cell)
    return of_seed[: of_seed.index(first if cell.independent else cell)]


def _does(part: Planned, cell: Cell, store: Callable[[Planned, str, float], object], told: set[str]) -> bool:
    """Does a cell, unless another machine is doing it or has done it meanwhile."""
    try:
        with held(part.folder / _LOCKS / _lock_of(cell)):
            if not cell.done():
                _tell(told, f"{part.name}, {cell.name}")
                do(cell, lambda name, minutes: store(part, name, minutes))
                assert cell.done(), f"{cell.name} has ended and is not done: it would begin again for ever"
    except Busy:
        doing = "doing this" if cell.independent else "at work on this seed"
        _tell(told, f"{part.name}, {cell.name}: another machine is {doing}")
        return False
    return True


def _lock_of(cell: Cell) -> str:
    """One for each independent cell, and one for all others of a seed, which write into the same folders."""
    name = cell.name if cell.independent else _seed_of(cell)
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _tell(told: set[str], line: str) -> None:
    """Prints a line once, since a cell of another machine is tried again and again."""
    if line not in told:
        side.print(line)
        told.add(line)


def _seed_of(cell: Cell) -> str:
    """What the name of every cell opens with, such as seed 0."""
    return cell.name.partition(":")[0]
