"""Training commands: train and its stages, fit."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grfd import runs
from grfd.api import fitting
from grfd.api.job import Own
from grfd.config import Config, checked
from grfd.defenses import standard
from grfd.method.stages import stage_one, stage_three, stage_two
from grfd.progress import console, titled


@dataclass(frozen=True, kw_only=True)
class Training(Config):
    """A run's settings, and where it goes."""

    out: Path
    """The run folder: made if it is not there, continued if it holds this very run."""

    def config(self) -> Config:
        return checked(Config(**{field.name: getattr(self, field.name) for field in fields(Config)}))


@dataclass(frozen=True, kw_only=True)
class Fitting(Training):
    """The settings of a run that a defense joins."""

    trust: bool = False
    """Import the code that the run folder names as its model; --model with that name says the same."""


def train(settings: Training) -> None:
    console.print(titled("train", f" {settings.out}: {settings.data}, {settings.model}, {settings.epochs} epochs"))
    fitting.train_run(settings.out, settings.config(), Own(trust=True))  # the model is a preset's, or was typed


def fit(name: str, settings: Training, recipe: Any, *, trust: bool = False) -> None:
    """What `grfd fit` does. `trust`: whether the code that the run folder names as its model may be imported."""
    console.print(titled("fit", f" {name} in {settings.out}: {settings.data}, {settings.model}"))
    fitting.fit_run(name, settings.out, settings.config(), recipe, Own(trust=trust))
    console.print(f"Attack it: grfd evaluate {settings.out}")


def _stage(settings: Training, stage: Callable[..., None], *, takes_model: bool) -> None:
    with runs.locked(settings.out):
        job = fitting.prepare(settings.out, settings.config(), Own(trust=True))
        stage(job.run, job.data, job.architecture) if takes_model else stage(job.run, job.data)
    console.print(f"written to {settings.out}")


TRAINING: dict[str, tuple[str, Callable[[Training], None]]] = {
    "train": ("Train the standard models and GRFD's stages I to III.", train),
    "stage-one": (
        "Stage I: train LVCVAE and RSM together (algorithm 1, lines 1–14).",
        lambda settings: _stage(settings, stage_one, takes_model=True),
    ),
    "stage-two": (
        "Stage II: write the robust dataset R_D (lines 15–19).",
        lambda settings: _stage(settings, stage_two, takes_model=False),
    ),
    "stage-three": (
        "Stage III: train the target model on R_D (lines 20–25).",
        lambda settings: _stage(settings, stage_three, takes_model=True),
    ),
    "standard": (
        "Train the undefended standard model.",
        lambda settings: _stage(settings, standard.fit, takes_model=True),
    ),
}
"""Commands of the form `grfd train PRESET --out RUN [--FIELD VALUE …]`."""
