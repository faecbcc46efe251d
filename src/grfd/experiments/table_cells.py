"""The cells of a table of defenses: the fit of each, the evaluations, and the times."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from grfd import runs
from grfd.api import evaluating, fitting, using
from grfd.api.job import load_data
from grfd.config import Config
from grfd.data.record import as_images
from grfd.defenses import DEFENSES, is_fitted
from grfd.evaluation.case import SOURCE
from grfd.evaluation.protocols import COMPARED, Protocol
from grfd.experiments.cells import Cell
from grfd.experiments.records import are_complete, metrics_of

TIMES_FILE = "times.json"
"""In a run folder: defense → the seconds that fitting took, and the milliseconds of an answer."""

_TIMED = 500
"""Number of images on which the time of an answer is measured."""

Recipes = Mapping[str, Mapping[str, Any]]
"""Defense → what a scale changes in its recipe."""


@dataclass(frozen=True)
class Part:
    """Some defenses under some attacks on the first `examples` test images, for later seeds on the first `later`."""

    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    examples: int
    later: int | None = None
    protocols: tuple[Protocol, ...] = COMPARED


def fit_cell(folder: Path, config: Config, name: str, recipes: Recipes) -> Cell:
    """The fit of a defense in a run folder."""
    return Cell(f"fit {name}", partial(_is_fitted, folder, name), partial(_fit, folder, config, name, recipes))


def _is_fitted(folder: Path, name: str) -> bool:
    return (folder / "config.json").exists() and is_fitted(runs.load(folder), name)


def _fit(folder: Path, config: Config, name: str, recipes: Recipes) -> None:
    fitting.fit_run(name, folder, config, DEFENSES[name].Recipe(**recipes.get(name, {})))


def judging_cell(folder: Path, names: Sequence[str], part: Part, examples: int) -> Cell:
    """The evaluation of some of a part's defenses."""

    def done() -> bool:
        return all(
            are_complete(folder, name, protocol, part.attacks, examples)
            for name in names
            for protocol in part.protocols
            if (name, protocol) != (SOURCE, "transfer")  # what is made on it is not transferred to it
        )

    def do() -> None:
        evaluating.evaluate(folder, part.protocols, part.attacks, examples, defenses=names)

    title = names[0] if len(names) == 1 else f"{len(names)} defenses"
    what = part.attacks[0] if len(part.attacks) == 1 else f"{len(part.attacks)} attacks"
    restriction = "" if part.protocols == COMPARED else f", {' and '.join(part.protocols)} only"
    return Cell(f"{what} on {title}, {examples:,} images{restriction}", done, do)


def time_cell(folder: Path, names: Sequence[str]) -> Cell:
    """The times of some defenses."""
    return Cell("time", (folder / TIMES_FILE).exists, partial(_write_times, folder, names))


def _write_times(folder: Path, names: Sequence[str]) -> None:
    run = runs.load(folder)
    images = as_images(load_data(run).test.images[:_TIMED])
    times = {}
    for name in names:
        times[name] = {
            "fit_seconds": sum(line["seconds"] for line in metrics_of(folder) if _belongs_to(line["stage"], name)),
            "answer_milliseconds": _answer_milliseconds(using.load_defense(run, defense=name), images),
        }
    runs.write_json(folder / TIMES_FILE, times)


def _belongs_to(stage: str, name: str) -> bool:
    """Whether a training is one of a defense's. Trainings of several parts are named after it, with a hyphen."""
    if name == "grfd":
        return stage in ("stage-one", "stage-three")
    longer = any(other != name and other.startswith(name) and stage.startswith(other) for other in DEFENSES)
    return stage == name or (stage.startswith(f"{name}-") and not longer)


@torch.no_grad()
def _answer_milliseconds(model: torch.nn.Module, images: torch.Tensor) -> float:
    """The time of an image, median of five passes. For a defense that takes a majority it is the time of one vote."""
    model(images)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        model(images)
        times.append(1000 * (time.perf_counter() - started) / len(images))
    return statistics.median(times)
