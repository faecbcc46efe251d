"""Bit-depth reduction (B-DR): the image is rounded to fewer bits before the standard model.

Xu et al. 2018 (arXiv:1704.01155), Guo et al. 2018 (arXiv:1711.00117). Only the standard model is trained.
Adaptive attack: the rounding has no useful gradient, so the surrogate uses that of the identity (BPDA, Backward Pass
Differentiable Approximation; Athalye et al. 2018, arXiv:1802.00420); and Square, which needs no gradient.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from grfd.defenses import recipes
from grfd.defenses.squeezers import Squeezed, reduce_bits
from grfd.schema import Bits, Settings
from grfd.training.classification import load_classifier, train_classifier
from grfd.training.job import Job

NAME = "bit-depth"
TITLE = "B-DR"
FILES = (f"recipes/{NAME}.json", "standard.safetensors")
LITERATURE = (
    "on CIFAR-10 at 4/255, discretised networks fall to 97 % of the attacks, as undefended ones do "
    "(google-research/selfstudy-adversarial-robustness). On MNIST, with 1 bit, only pixels within ε of 0.5 can change."
)
GREY: dict[str, Any] = {"bits": 1}
COLOUR: dict[str, Any] = {"bits": 5}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of bit-depth reduction. Defaults: 1 bit for grey images, 5 bits for colour images."""

    bits: Bits | None = None
    """Number of bits per channel that remain; there are 2^bits levels."""


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing. There is nothing else to train."""
    train_classifier(job, "standard")


def load(job: Job) -> nn.Module:
    """The rounding followed by the standard model, in eval mode."""
    bits = recipes.recall(job.run, NAME, Recipe).bits
    assert bits is not None
    return Squeezed(load_classifier(job, "standard"), lambda images: reduce_bits(images, bits)).eval()
