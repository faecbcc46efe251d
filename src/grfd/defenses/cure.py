"""CURE (Moosavi-Dezfooli et al. 2019, arXiv:1811.09716): the standard model is fine-tuned to reduce the loss curvature.

CURE: Curvature Regularisation. It is not in the paper's table, but the paper's eq. 4 comes from it.
Adaptive attack: any white-box attack, above all AutoAttack.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import nn

from grfd.defenses import recipes
from grfd.method.losses import input_gradients, sign_gradient_perturbation
from grfd.schema import Count, Deviation, Rate, Settings, Weight
from grfd.training.classification import load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Images, Labels

NAME = "cure"
TITLE = "CURE"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "CIFAR-10, 8/255: 38.5 % under AutoAttack, at 83.1 % clean (RobustBench)."
GREY: dict[str, float] = {}
COLOUR: dict[str, float] = {}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of CURE, by default those of the authors."""

    LATER: ClassVar[frozenset[str]] = frozenset({"penalty", "start"})

    penalty: Literal["curvature", "gradient_norm"] = "curvature"
    """curvature: the distance of the gradients at both points, as the authors have it. gradient_norm: the sum of
    absolute values of the gradient at the point that is one step away."""
    start: Literal["standard", "fresh"] = "standard"
    """Initial weights: those of the standard model, which is fine-tuned, or fresh ones."""
    weight: Weight = 4.0
    """λ of eq. 7, the weight of the curvature."""
    first_step: Deviation = 0.1
    """h at the start of training: the Euclidean distance of the two points whose gradients are compared."""
    last_step: Deviation = 3.0
    """h in the second half of training. In the first half it grows linearly."""
    epochs: Count = 20
    """Epochs of fine-tuning."""
    learning_rate: Rate = 1e-4
    """Learning rate of AdamW, which decays to 0 along a cosine."""


class Curvature(nn.Module):
    """CE + λ·‖∇l(x + z) − ∇l(x)‖ with z = h·sign(∇l)/‖sign(∇l)‖ (eq. 7). As in the authors' code, it is not squared.

    Or CE + λ·‖∇l(x + z)‖₁. CE: cross-entropy.
    """

    def __init__(self, classifier: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.classifier = classifier
        self.recipe = recipe

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        first, last = self.recipe.first_step, self.recipe.last_step
        step = first + (last - first) * min(2 * progress, 1.0)
        move = sign_gradient_perturbation(self.classifier, images, labels, scale=step, of="cross_entropy")
        logits, here, there = input_gradients(self.classifier, images, move, labels, of="cross_entropy")
        natural = F.cross_entropy(logits, labels, reduction="none")
        if self.recipe.penalty == "gradient_norm":
            norm = there.abs().sum(1)
            return {"loss": natural + self.recipe.weight * norm, "natural": natural, "gradient_norm": norm}
        # 1e-12, because the square root has no derivative at 0, which good classifiers often reach
        curvature = ((there - here).square().sum(1) + 1e-12).sqrt()
        return {"loss": natural + self.recipe.weight * curvature, "natural": natural, "curvature": curvature}


def fit(job: Job, recipe: Recipe) -> None:
    """Trains from the standard model of the run or from fresh weights, and writes cure.safetensors."""

    def start() -> nn.Module:
        return load_classifier(job, "standard") if recipe.start == "standard" else job.architecture()

    optimisation = recipes.optimisation_of(recipe)
    train_under(job, NAME, lambda model: Curvature(model, recipe), optimisation, start=start)


def load(job: Job) -> nn.Module:
    """The fine-tuned classifier, in eval mode."""
    return load_classifier(job, NAME)
