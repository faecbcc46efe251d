"""The standard model, without any defense: "None" in the paper. Adaptive attack: any white-box attack."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from grfd.schema import Settings
from grfd.training.classification import load_classifier, train_classifier
from grfd.training.job import Job

NAME = "standard"
TITLE = "standard"
FILES = (f"{NAME}.safetensors",)
LITERATURE = ""
SECOND = "second-standard"
SECOND_TITLE = "2nd standard"
NARROW_SECOND_TITLE = "2nd\nstandard"
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}


@dataclass(frozen=True)
class Recipe(Settings):
    """There are no settings here: they are those of the run's configuration."""


def fit(job: Job, recipe: Recipe | None = None) -> None:
    """Trains the target's architecture on x, as the configuration says."""
    train_classifier(job, NAME)


def load(job: Job) -> nn.Module:
    """The standard model, in eval mode."""
    return load_classifier(job, NAME)


def fit_second(job: Job) -> None:
    """Trains a second standard model from other random streams, which shows what transfer does without any defense."""
    train_classifier(job, SECOND)


def load_second(job: Job) -> nn.Module:
    """The second standard model, in eval mode."""
    return load_classifier(job, SECOND)
