"""An experiment is a list of cells: what is done is never done again, so a stopped experiment continues."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich import box
from rich.table import Table
from rich.text import Text

from grfd.errors import UserError
from grfd.experiments.minutes import measured_minutes
from grfd.progress import side, titled


@dataclass(frozen=True)
class Cell:
    """One piece of work."""

    name: str
    done: Callable[[], bool]
    do: Callable[[], object]
    check: Callable[[], None] = lambda: None
    """Raises `UserError` where `do` would: asked of every cell before the first begins, which may take hours."""
    independent: bool = False
    """It works in a folder of its own and needs only the cells before the first independent one of its seed, so that
    several machines can each do one at the same time."""


class Experiment(Protocol):
    """A file of this folder: its docstring opens with claim, cost and command."""

    @property
    def SCALES(self) -> tuple[str, ...]: ...

    @property
    def FOLDER(self) -> str:
        """Below runs/, where no folder is named; experiments that share trainings share it."""

    @property
    def cells(self) -> Callable[..., list[Cell]]:
        """(out, scale, seeds) → all work of it, in order; on CIFAR, data_dir says where that lies."""

    def show(self, out: Path, scale: str, seeds: int) -> list[Table | str]:
        """What it prints once its cells are done."""

    def section(self, results: Path) -> list[str]:
        """Its paragraphs on docs/reproduction.md, from the records that are committed; empty if there are none.

        Experiments that share records open with the same paragraph, which the page prints once.
        """


@runtime_checkable
class DrawsFigures(Protocol):
    """An experiment whose section shows figures."""

    def draw(self, results: Path, docs: Path) -> list[Path]:
        """Draws them beside the page, from the records that are committed. Returns the files that were written."""


def run(cells: list[Cell], store: Callable[[str, float], object] = lambda cell, minutes: None) -> None:
    """Does what is not done, in order. `store` is given the name of each cell and the minutes that it took."""
    todo = [cell for cell in cells if not cell.done()]
    for cell in todo:
        cell.check()
    for index, cell in enumerate(todo, 1):
        side.print(titled(f"{index}/{len(todo)}", f" {cell.name}"))
        do(cell, store)


def do(cell: Cell, store: Callable[[str, float], object]) -> None:
    """Does a cell, and says how long it took."""
    started = time.monotonic()
    cell.do()
    minutes = (time.monotonic() - started) / 60
    store(cell.name, minutes)
    side.print(f"{minutes:.1f} minutes")


def plan(cells: list[Cell], minutes: Mapping[str, float]) -> Table:
    """What there is to do, and what it costs. `minutes`: cell → minutes, for the cells that were measured."""
    table = Table("cell", "minutes, measured", "state", box=box.SIMPLE_HEAD)
    for cell in cells:
        cost = f"{minutes[cell.name]:.1f}" if cell.name in minutes else "not measured"
        table.add_row(cell.name, cost, "done" if cell.done() else "to do")
    return table


def check_scale(experiment: Experiment, scale: str, seeds: int) -> None:
    """Raises `UserError` for a scale that the experiment does not have, and for no seed at all."""
    if scale not in experiment.SCALES:
        raise UserError(f"unknown scale {scale!r}: expected one of {', '.join(experiment.SCALES)}")
    if seeds < 1:
        raise UserError(f"seeds must be at least 1, got {seeds}")


@dataclass(frozen=True)
class ExperimentState:
    """How far an experiment is. `minutes`: the sum over its cells that were measured; None where none was.

    `minutes_left`: of those that are not done; None if one of them was not measured. `command`: what does them.
    """

    name: str
    scale: str
    folder: str
    cells: int
    cells_done: int
    cells_not_measured: int
    minutes: float | None
    minutes_left: float | None
    command: str
    claim: str


_LARGEST_FIRST = ("paper", "short", "quick")


def states(experiments: dict[str, Experiment], scale: str, seeds: int) -> list[ExperimentState]:
    """Of each experiment, at its largest scale on MNIST where it has none of that name.

    Raises `UserError` for a scale that none has.
    """
    known = list(dict.fromkeys(each for experiment in experiments.values() for each in experiment.SCALES))
    if scale not in known:
        raise UserError(f"unknown scale {scale!r}: expected one of {', '.join(known)}")
    listed = []
    for name, experiment in experiments.items():
        chosen = next((each for each in (scale, *_LARGEST_FIRST) if each in experiment.SCALES), experiment.SCALES[-1])
        listed.append(_state(name, experiment, chosen, seeds))
    return listed


def _state(name: str, experiment: Experiment, scale: str, seeds: int) -> ExperimentState:
    folder = Path("runs") / experiment.FOLDER
    known = measured_minutes(folder, scale)
    cells = {cell.name: cell.done() for cell in experiment.cells(folder, scale, seeds)}
    measured = [known[cell] for cell in cells if cell in known]
    left = [known.get(cell) for cell, done in cells.items() if not done]
    dataset, _, rest = scale.rpartition("-")
    words = ["grfd reproduce", name, *(["--dataset", dataset] if dataset else []), "--scale", rest]
    return ExperimentState(
        name=name,
        scale=scale,
        folder=folder.as_posix(),
        cells=len(cells),
        cells_done=sum(cells.values()),
        cells_not_measured=len(cells) - len(measured),
        minutes=sum(measured) if measured else None,
        minutes_left=None if None in left else sum(each for each in left if each is not None),
        command=" ".join([*words, *(["--seeds", str(seeds)] if seeds > 1 else [])]),
        claim=claim(experiment),
    )


def paragraph(state: ExperimentState) -> Text:
    """Name, how much is done, cost where it was measured, claim."""
    done = f"{state.cells_done} of {state.cells} cells done in {state.folder}"
    rest = f"\n  {state.command}" + _rest(state) if state.cells_done < state.cells else ""
    return titled(state.name, f" --scale {state.scale}: {done}; {_cost(state)}\n  {state.claim}{rest}\n")


def _rest(state: ExperimentState) -> str:
    """What remains, where something is done."""
    if not state.cells_done:
        return ""
    about = "" if state.minutes_left is None else f", about {max(round(state.minutes_left), 1)} minutes"
    return f"    # {state.cells - state.cells_done} cells remain{about}"


def _cost(state: ExperimentState) -> str:
    if state.minutes is None:
        return "cost not measured"
    minutes = max(round(state.minutes), 1)
    cost = f"{minutes} minute{'s' if minutes > 1 else ''}"
    return (
        f"{cost} without the {state.cells_not_measured} cells that were not measured"
        if state.cells_not_measured
        else cost
    )


def claim(experiment: Experiment) -> str:
    """The first sentence of what the docstring claims."""
    text = " ".join((experiment.__doc__ or "").split())
    return text.partition("Claim: ")[2].partition(" Cost: ")[0].partition(". ")[0].rstrip(".") + "."
