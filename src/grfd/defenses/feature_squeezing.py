"""F.S.: feature squeezing as a pipeline: bit depth, median 2×2, and for colour non-local means.

Xu et al. 2018 (arXiv:1704.01155). One squeezer after the other stands before the standard model; nothing is trained.
Adaptive attack: BPDA, the identity's gradient through all of it, and Square.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from grfd.config import Config
from grfd.data.record import Data
from grfd.defenses import recipes
from grfd.defenses.squeezers import Squeezed, Squeezer, median_2x2, non_local_means, reduce_bits
from grfd.schema import Bits, Settings
from grfd.training.classification import load_classifier, train_classifier
from grfd.training.job import Job
from grfd.types import Images

NAME = "feature-squeezing"
TITLE = "F.S."
FILES = (f"recipes/{NAME}.json", "standard.safetensors")
LITERATURE = (
    "on CIFAR-10 at 4/255, blurred networks fall to 95 % and discretised ones to 97 % of the attacks (the same source)."
)
GREY: dict[str, Any] = {"bits": 1, "smooth": False}
COLOUR: dict[str, Any] = {"bits": 5, "smooth": True}


@dataclass(frozen=True)
class Recipe(Settings):
    """Feature squeezing. Where it is not given, 1 bit for grey images, 5 bits and non-local means for colour."""

    bits: Bits | None = None
    """Bits a channel that are left."""
    smooth: bool | None = None
    """Whether non-local means (13-3-2) follow the median filter."""


def squeezer(recipe: Recipe) -> Squeezer:
    """The squeezers in the authors' order."""

    def squeeze(images: Images) -> Images:
        assert recipe.bits is not None
        squeezed = median_2x2(reduce_bits(images, recipe.bits))
        return non_local_means(squeezed) if recipe.smooth else squeezed

    return squeeze


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images smaller than the window of the non-local means."""
    recipes.require_multiples(NAME, data, 1, least=7 if recipe.smooth else 1)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing; there is nothing else to train."""
    train_classifier(job, "standard")


def load(job: Job) -> nn.Module:
    """The standard model behind the squeezers, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    return Squeezed(load_classifier(job, "standard"), squeezer(recipe)).eval()
