"""Figure 3: images x, their redundant parts x_u and their robust parts x_r, and adversarial examples below them.

Claim: x_u looks like the image and x_r keeps the robust features of a class. Grey scales are fixed: x_r is drawn from
−1 (black) to 1 (white), everything else from 0 to 1. `grfd evaluate RUN` draws the same figure of any run.
Cost: `grfd reproduce fig3 --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce fig3 --scale short`.
"""

from functools import partial
from pathlib import Path

import torch
from rich.table import Table

from grfd import runs
from grfd.api.job import load_data
from grfd.api.pictures import write_examples
from grfd.evaluation.case import Case, budgets_for
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.variants import (
    FOLDER,
    SCALES,
    SCHEDULES,
    Variant,
    schedule_of,
    variant_config,
    variant_name,
    variants_folder,
)
from grfd.report.figures import figure_3

__all__ = ["FOLDER", "SCALES", "cells", "section", "show"]


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The training of GRFD and of the standard models, and the examples, for each seed."""
    schedule, todo = schedule_of(scale, data_dir), []
    for seed in range(seeds):
        folder, config = variants_folder(out, scale, seed), variant_config(schedule, seed, Variant())
        run = folder / variant_name(schedule, Variant())
        todo += [
            variants.standard_cell(folder, schedule, seed),
            Cell(f"seed {seed}: train default", partial(variants.is_trained, run),
                 partial(variants.train_variant, run, config), independent=True),
            Cell(f"seed {seed}: examples", (run / "examples.npz").exists, partial(write_example_arrays, folder, run)),
        ]  # fmt: skip
    return todo


def write_example_arrays(folder: Path, path: Path) -> None:
    """Writes examples.npz into the run folder of a variant. `folder`: that of the seed."""
    run = runs.load(path)
    data = load_data(run)
    models = variants.load_standard_models(folder / "standard") | {"grfd": variants.load_deployed(path)}
    budgets = budgets_for(data.test.images.shape[1])
    write_examples(Case(path, models, data.test, budgets, run.config.seed, torch.device("cpu")))


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """fig3.png and .pdf in the run folder of each seed."""
    runs_of = [variants_folder(out, scale, seed) / variant_name(SCHEDULES[scale], Variant()) for seed in range(seeds)]
    return [f"drawn {figure_3(path)[0]}" for path in runs_of]


def section(results: Path) -> list[str]:
    """Empty: the page has no section on this figure. README.md shows it, drawn from the run of 150 epochs."""
    return []
