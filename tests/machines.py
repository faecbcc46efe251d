"""Machines that divide a small experiment among them, as processes of their own."""

import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from grfd import cli
from grfd.config import Config
from grfd.experiments import fig3, shards, variants
from grfd.experiments.cells import Cell
from grfd.experiments.shards import Planned
from grfd.experiments.variants import Schedule

TINY = Schedule(Config(epochs=1, classifier_epochs=1, train_examples=200, latent=8, device="cpu"), 8, ("fgsm",))


def reproduce_fig3(*options: str) -> None:
    """Figure 3 with two seeds, on a schedule of seconds."""
    variants.SCHEDULES["quick"] = TINY
    cli._dispatch(["reproduce", "fig3", "--seeds", "2", *options])


def logged_cells(folder: Path, seconds: float) -> list[Cell]:
    """A cell on which four independent ones build, and one that needs them all. Each writes one line to a log."""
    trainings = [f"seed 0: train {letter}" for letter in "abcd"]
    needs = {"seed 0: standard models": [], **{name: ["seed 0: standard models"] for name in trainings}}
    needs["seed 0: judge"] = trainings

    def work(name: str) -> None:
        assert all((folder / each).exists() for each in needs[name]), f"{name} came too early"
        with (folder / "log").open("a") as log:
            log.write(f"{name}, {os.getpid()}\n")
        time.sleep(seconds)
        (folder / name).touch()

    return [Cell(name, (folder / name).exists, partial(work, name), independent=name in trainings) for name in needs]


def work_together(folder: Path, seconds: float, ready: Callable[[], object] = lambda: None) -> None:
    """What one machine does of them. `ready`: waits until the other machines are ready, too."""
    shards._PAUSE = 0.1
    ready()
    parts = [Planned("dummy", fig3, folder, "quick", logged_cells(folder, seconds))]
    shards.run_together(parts, lambda part, cell, minutes: None)


def reproduce_together(*machines: tuple[str, ...]) -> list[int | None]:
    """The same at once in a process for each tuple of options. Returns their exit codes."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=reproduce_fig3, args=options) for options in machines]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]
