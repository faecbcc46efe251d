"""No defense: the paper's "None". Adaptive attack: any white-box attack."""

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
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}


@dataclass(frozen=True)
class Recipe(Settings):
    """No defense: the run's configuration says it all."""


def fit(job: Job, recipe: Recipe | None = None) -> None:
    """Trains the target's architecture on x, with the target's recipe."""
    train_classifier(job, NAME)


def load(job: Job) -> nn.Module:
    """The standard model, in eval mode."""
    return load_classifier(job, NAME)


def fit_second(job: Job) -> None:
    """Another standard model, of other random streams: what transfer alone does to a model without any defense."""
    train_classifier(job, SECOND)


def load_second(job: Job) -> nn.Module:
    """The second standard model, in eval mode."""
    return load_classifier(job, SECOND)
