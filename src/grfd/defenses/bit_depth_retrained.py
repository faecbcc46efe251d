"""Bit-depth reduction (B-DR), retrained: the classifier is trained on images with a reduced bit depth.

Guo et al. 2018 (arXiv:1711.00117). Adaptive attack: as for `bit_depth`, the gradient of the identity (BPDA, Backward
Pass Differentiable Approximation), and Square.
"""

from torch import Tensor, nn

from grfd.data.record import as_images
from grfd.defenses import recipes
from grfd.defenses.bit_depth import COLOUR, GREY, Recipe
from grfd.defenses.squeezers import Squeezed, reduce_bits
from grfd.training.classification import Classification, classifier_optimisation, load_classifier, train_under
from grfd.training.job import Job

NAME = "bit-depth-retrained"
TITLE = "B-DR, retrained"
FILES = (f"{NAME}.safetensors",)
LITERATURE = ""

__all__ = ["COLOUR", "FILES", "GREY", "LITERATURE", "NAME", "TITLE", "Recipe", "fit", "load"]


def _squeezed(classifier: nn.Module, bits: int | None) -> Squeezed:
    assert bits is not None

    def reduce(images: Tensor) -> Tensor:
        return reduce_bits(as_images(images), bits)

    return Squeezed(classifier, reduce)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture on the rounded images, and writes bit-depth-retrained.safetensors."""
    optimisation = classifier_optimisation(job.run.config)
    train_under(job, NAME, lambda model: Classification(_squeezed(model, recipe.bits)), optimisation)


def load(job: Job) -> nn.Module:
    """The rounding followed by its classifier, in eval mode."""
    bits = recipes.recall(job.run, NAME, Recipe).bits
    return _squeezed(load_classifier(job, NAME), bits).eval()
