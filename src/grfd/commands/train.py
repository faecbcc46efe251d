"""Training commands: train, its stages, and fit."""

from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from grfd import runs
from grfd.api import fitting
from grfd.api.job import Own
from grfd.config import Config, checked_config
from grfd.defenses import DEFENSES, standard
from grfd.method.stages import stage_one, stage_three, stage_two
from grfd.progress import console, titled
from grfd.training.job import Job


@dataclass(frozen=True, kw_only=True)
class Training(Config):
    """The settings of a run, the file that they come from, and the run folder."""

    out: Path
    """The run folder. It is created if it does not exist, and continued if it contains a run of the same settings."""
    config: Path | None = None
    """A TOML file with some of these settings, or the config.json of another run. Options on the command line win."""
    trust: bool = False
    """Import the code that a run folder, or its config.json, names as its model. --model with that name also does."""

    def settings(self) -> Config:
        """The settings of the run alone."""
        return checked_config(Config(**{field.name: getattr(self, field.name) for field in fields(Config)}))


@cache
def fit_settings(defense: str) -> type[Any]:
    """The record of all options of `grfd fit DEFENSE`."""
    recipe = ("recipe", DEFENSES[defense].Recipe)
    return make_dataclass("Settings", [recipe], bases=(Training,), frozen=True, kw_only=True)


def train_command(asked: Training, own: Own) -> None:
    console.print(titled("train", f" {asked.out}: {asked.data}, {asked.model}, {asked.epochs} epochs"))
    fitting.train_run(asked.out, asked.settings(), own)


def fit_command(name: str, asked: Training, recipe: Any, own: Own) -> None:
    console.print(titled("fit", f" {name} in {asked.out}: {asked.data}, {asked.model}"))
    fitting.fit_run(name, asked.out, asked.settings(), recipe, own)
    console.print(f"Next: grfd evaluate {asked.out}")


def _stage(stage: Callable[[Job], None]) -> Callable[[Training, Own], None]:
    def command(asked: Training, own: Own) -> None:
        with runs.locked(asked.out):
            stage(fitting.prepare(asked.out, asked.settings(), own))
        console.print(f"written to {asked.out}")

    return command


TRAINING: dict[str, tuple[str, Callable[[Training, Own], None]]] = {
    "train": ("Train the standard models and GRFD's stages I to III.", train_command),
    "stage-one": ("Stage I: train LVCVAE and RSM together (algorithm 1, lines 1–14).", _stage(stage_one)),
    "stage-two": ("Stage II: write the robust dataset R_D (lines 15–19).", _stage(stage_two)),
    "stage-three": ("Stage III: train the target model on R_D (lines 20–25).", _stage(stage_three)),
    "standard": ("Train the undefended standard model.", _stage(standard.fit)),
}
"""Commands of the form `grfd train PRESET --out RUN [--FIELD VALUE …]`."""
