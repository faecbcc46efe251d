"""An attack, a defense, a data set and an experiment that are there for the tests of the registries."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS, AttackEntry
from grfd.data import DATASETS, Data, Dataset, from_tensors
from grfd.defenses import DEFENSES, standard
from grfd.experiments import EXPERIMENTS
from grfd.experiments.cells import Cell
from grfd.schema import Settings


def brighter(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: Any = None) -> Tensor:
    """An attack that knows nothing: it makes each image brighter."""
    model(images)
    return (images + eps).clamp(0, 1)


ATTACK = AttackEntry(brighter, "Brighter", grey={"eps": 0.1}, colour={"eps": 0.05}, transfer={}, passes=1)


@dataclass(frozen=True)
class Recipe(Settings):
    strength: int = 1


def _defense() -> ModuleType:
    module = ModuleType("rounding", "A dummy defense: the standard model behind a surrogate of its own.")
    members = {"TITLE": "Dummy", "LITERATURE": "", "FILES": ("standard.safetensors",), "GREY": {}, "COLOUR": {},
               "Recipe": Recipe, "fit": lambda job, recipe: None, "load": standard.load}  # fmt: skip
    for name, member in members.items():
        setattr(module, name, member)
    return module


def load_stripes(directory: Path | None = None) -> Data:
    """Three classes: the channel that is bright."""
    labels = torch.arange(60) % 3
    images = 0.5 * torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[torch.arange(60), labels] += 0.5
    return from_tensors(images, labels, images[:30], labels[:30], name="stripes")


def _experiment() -> ModuleType:
    module = ModuleType("nothing", "A dummy experiment.\n\nClaim: there is one more experiment. Cost: none.")

    def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
        return [Cell("a file", (out / "file").exists, lambda: _write(out / "file"))]

    def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
        return [f"{scale}: {(out / 'file').read_text()}"]

    members = {"SCALES": ("quick",), "FOLDER": "nothing", "cells": cells, "show": show,
               "section": lambda results: ["## A dummy experiment\n\nIts section."]}  # fmt: skip
    for name, member in members.items():
        setattr(module, name, member)
    return module


def _write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("done")


ENTRIES: list[tuple[dict[str, Any], str, Any]] = [
    (ALL_ATTACKS, "brighter", ATTACK),
    (DEFENSES, "dummy", _defense()),
    (DATASETS, "stripes", Dataset("Stripes", load_stripes)),
    (EXPERIMENTS, "nothing", _experiment()),
]
"""Registry, name, entry."""
