"""No defense: the paper's "None". Adaptive attack: any white-box attack."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from grfd.data.record import Data
from grfd.models import Architecture
from grfd.runs import Run
from grfd.schema import Record
from grfd.training.classification import load_classifier, train_classifier

NAME = "standard"
FILES = (f"{NAME}.safetensors",)
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}


@dataclass(frozen=True)
class Recipe(Record):
    """No defense: the run's configuration says it all."""


def fit(run: Run, data: Data, architecture: Architecture, recipe: Recipe | None = None) -> None:
    """Trains the target's architecture on x, with the target's recipe."""
    train_classifier(run, NAME, data, architecture)


def load(run: Run, data: Data, architecture: Architecture) -> nn.Module:
    """The standard model, in eval mode."""
    return load_classifier(run, NAME, architecture)


def fit_second(run: Run, data: Data, architecture: Architecture) -> None:
    """Another standard model, of other random streams: what transfer alone does to a model without any defense."""
    train_classifier(run, "second-standard", data, architecture)


def load_second(run: Run, data: Data, architecture: Architecture) -> nn.Module:
    """The second standard model, in eval mode."""
    return load_classifier(run, "second-standard", architecture)
