"""B-DR, retrained: bit-depth reduction, and a classifier that was trained on what it leaves.

Guo et al. 2018 (arXiv:1711.00117). Adaptive attack: as for `bit_depth`, BPDA with the identity, and Square.
"""

from torch import Tensor, nn

from grfd.data.record import Data, as_images
from grfd.defenses import recipes
from grfd.defenses.bit_depth import COLOUR, GREY, Recipe
from grfd.defenses.squeezers import Squeezed, reduce_bits
from grfd.models import Architecture
from grfd.runs import Run
from grfd.training.classification import Classification, Plain, load_classifier, train_under

NAME = "bit-depth-retrained"
FILES = (f"{NAME}.safetensors",)

__all__ = ["COLOUR", "FILES", "GREY", "NAME", "Recipe", "fit", "load"]


def _squeezed(classifier: nn.Module, bits: int | None) -> Squeezed:
    assert bits is not None

    def reduce(images: Tensor) -> Tensor:
        return reduce_bits(as_images(images), bits)

    return Squeezed(classifier, reduce)


def fit(run: Run, data: Data, architecture: Architecture, recipe: Recipe) -> None:
    """Trains the target's architecture on q(x), with the target's recipe; writes bit-depth-retrained.safetensors."""
    schedule = Plain(run.config.classifier_epochs, run.config.classifier_learning_rate)
    train_under(run, NAME, data, architecture, lambda model: Classification(_squeezed(model, recipe.bits)), schedule)


def load(run: Run, data: Data, architecture: Architecture) -> nn.Module:
    """The classifier behind the rounding, in eval mode."""
    bits = recipes.recall(run, NAME, Recipe).bits
    return _squeezed(load_classifier(run, NAME, architecture), bits).eval()
