"""Feature squeezing (F.S.) as a pipeline: bit-depth reduction, a 2×2 median filter, and for colour non-local means.

Xu et al. 2018 (arXiv:1704.01155). The squeezers are applied in turn before the standard model, which alone is trained.
Adaptive attack: the gradient of the identity through all of them (BPDA, Backward Pass Differentiable Approximation),
and Square.
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
    """Settings of feature squeezing. Defaults: 1 bit for grey images, 5 bits and non-local means for colour images."""

    bits: Bits | None = None
    """Number of bits per channel that remain."""
    smooth: bool | None = None
    """Whether non-local means (13-3-2) are applied after the median filter."""


def squeezer(recipe: Recipe) -> Squeezer:
    """All squeezers in turn, in the order of the authors."""

    def squeeze(images: Images) -> Images:
        assert recipe.bits is not None
        squeezed = median_2x2(reduce_bits(images, recipe.bits))
        return non_local_means(squeezed) if recipe.smooth else squeezed

    return squeeze


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images that are smaller than the window of non-local means."""
    recipes.require_multiples(NAME, data, 1, least=7 if recipe.smooth else 1)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing. There is nothing else to train."""
    train_classifier(job, "standard")


def load(job: Job) -> nn.Module:
    """The squeezers followed by the standard model, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    return Squeezed(load_classifier(job, "standard"), squeezer(recipe)).eval()
