"""Sections 2.1 and 2.2: the defenses that the paper cites, judged like those of its Table 3, and SE-AdvGAN.

Claim: the paper names these defenses as related work and gives no numbers for them. Each is fitted by the recipe of its
authors, scaled to the data, and judged under `transfer`, `whitebox` and `adaptive` with the ε of Table 1.
Cost: `grfd reproduce section22 --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce section22 --scale short`; `grfd reproduce section22 --dataset cifar10 --scale small`.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from grfd.config import PRESETS, Config
from grfd.evaluation.protocols import Protocol
from grfd.experiments.cells import Cell
from grfd.experiments.section22.generators import generators_cell
from grfd.experiments.section22.page_section import FOLDER, brief_sheet, defenses_sheet, draw, draw_defenses, section
from grfd.experiments.table_cells import TIMES_FILE, Part, fit_cell, judging_cell, time_cell
from grfd.report.sheets import printed, write

__all__ = ["FOLDER", "SCALES", "cells", "draw", "section", "show"]

_ATTACKS = ("fgsm", "a3")
"""The largest ε of Table 1, and the strongest attack."""
_WITHOUT_ADAPTIVE: tuple[Protocol, ...] = ("transfer", "whitebox")
"""The protocols for PGD, the usual attack: `adaptive` would repeat it with other losses, and A3 finds as much."""
_CITED = ("guided-denoiser", "distillation", "feature-scattering", "robust-components", "trs", "jpeg", "magnet")
"""The defenses of section 2.2 whose answers are not random."""
_RANDOM = ("bayesian", "total-variation", "crop-rescale")
"""Those whose answers are random. They are attacked in expectation, which costs many passes."""
_REFERENCES = ("grfd", "bit-depth", "trades", "grfd-robust", "grfd-free")
"""What they are compared with, besides no defense and PGD-AT."""
_VICTIMS = ("standard", "pgd-at", "grfd")
"""The models on which AdvGAN and SE-AdvGAN are compared."""
_QUICK_RECIPES: dict[str, dict[str, Any]] = {
    "guided-denoiser": {"epochs": 1},
    "magnet": {"epochs": 1},
    "distillation": {"epochs": 1},
    "feature-scattering": {"epochs": 1},
    "trs": {"epochs": 1},
    "bayesian": {"epochs": 1},
    "robust-components": {"epochs": 1},
}

_MAGNET: dict[str, Any] = {"epochs": 20, "learning_rate": 0.03}
"""At the authors' rate, autoencoders of three maps need their 100 and 400 epochs."""
_FEW_STEPS: dict[str, Any] = {"epochs": 12, "steps": 3, "step_size": 4 / 255}
_SMALL_RECIPES: dict[str, dict[str, Any]] = {
    "pgd-at": _FEW_STEPS,
    "robust-components": _FEW_STEPS,
    "guided-denoiser": {"epochs": 5},
    "magnet": _MAGNET,
    "distillation": {"epochs": 12},
    "feature-scattering": {"epochs": 12},
    "trs": {"epochs": 3, "steps": 2},
    "bayesian": {"epochs": 12},
}
"""Twelve epochs where the authors take hundreds: what two cores train in two hours."""


@dataclass(frozen=True)
class CitedScale:
    """The configuration, the parts that are judged, and what the scale changes in the recipes."""

    config: Config
    parts: tuple[Part, ...]
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)


_SCALES: dict[str, CitedScale] = {
    "quick": CitedScale(
        replace(PRESETS["quick"], epochs=1, classifier_epochs=1, train_examples=2_000),
        (Part(("standard", *_CITED), ("fgsm",), 50), Part(("bayesian",), ("fgsm",), 20)),
        _QUICK_RECIPES,
    ),
    "short": CitedScale(
        replace(PRESETS["quick"], classifier_epochs=3, train_examples=20_000),
        (
            Part(("standard", "pgd-at", *_CITED), _ATTACKS, 1000),
            Part(_RANDOM, ("fgsm",), 1000),
            Part(_REFERENCES, _ATTACKS, 1000),
            Part(("standard", "pgd-at", *_CITED), ("pgd",), 1000, protocols=_WITHOUT_ADAPTIVE),
            Part(_RANDOM, ("pgd", "a3"), 100),
        ),
        {"grfd-robust": {"epochs": 6}, "trs": {"epochs": 4}, "magnet": _MAGNET},
    ),
    "cifar10-small": CitedScale(
        replace(PRESETS["cifar10-small"], train_examples=20_000),
        (
            Part(("standard", "pgd-at", *_CITED, "bit-depth", "grfd"), _ATTACKS, 200),
            Part(_RANDOM, ("fgsm",), 200),
            Part(("standard", "pgd-at", *_CITED), ("pgd",), 200, protocols=_WITHOUT_ADAPTIVE),
        ),
        _SMALL_RECIPES,
    ),
}
SCALES = tuple(_SCALES)


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The fits, evaluations and times, for each seed."""
    chosen = _SCALES[scale]
    todo: list[Cell] = []
    for seed in range(seeds):
        folder = _seed_folder(out, scale, seed)
        config = replace(chosen.config, seed=seed, data_dir=data_dir)
        names = list(dict.fromkeys(name for part in chosen.parts for name in part.defenses))
        mine: list[Cell] = []
        for part in chosen.parts:
            for name in part.defenses:  # one after the other, so that a table grows row by row
                fit = fit_cell(folder, config, name, chosen.recipes)
                mine += [fit] if all(fit.name != cell.name for cell in mine) else []
                mine.append(judging_cell(folder, [name], part, part.examples))
        mine += [generators_cell(folder, [name for name in _VICTIMS if name in names]), time_cell(folder, names)]
        todo += [replace(cell, name=f"seed {seed}: {cell.name}") for cell in mine]
    return todo


def _seed_folder(out: Path, scale: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}"


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The table of all defenses, and for each whether it held."""
    folders = [_seed_folder(out, scale, seed) for seed in range(seeds)]
    times = json.loads((folders[0] / TIMES_FILE).read_text())
    sheet = defenses_sheet(folders, times)
    write(sheet, out / "section22")
    return [printed(brief_sheet(sheet)), f"drawn {draw_defenses(folders, times, out / 'section22')[0]}"]
