"""CURE (Moosavi-Dezfooli et al. 2019, arXiv:1811.09716): the standard model, fine-tuned to a loss of small curvature.

Not in the paper's table; its eq. 4 comes from here. Adaptive attack: any white-box attack, AutoAttack above all.
"""

from dataclasses import dataclass

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
    """CURE, the authors' settings."""

    weight: Weight = 4.0
    """λ of eq. 7."""
    first_step: Deviation = 0.1
    """h at the start: the Euclidean length of the move whose change of gradient is penalised."""
    last_step: Deviation = 3.0
    """h from the middle of training on; it grows linearly until then."""
    epochs: Count = 20
    learning_rate: Rate = 1e-4
    """AdamW's, falling to 0 along a cosine."""


class Curvature(nn.Module):
    """CE + λ·‖∇l(x + z) − ∇l(x)‖ with z = h·sign(∇l)/‖sign(∇l)‖ (eq. 7; not squared, as in the authors' code)."""

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
        # the root has no slope at 0, where most gradients of a good classifier are
        curvature = ((there - here).square().sum(1) + 1e-12).sqrt()
        return {"loss": natural + self.recipe.weight * curvature, "natural": natural, "curvature": curvature}


def fit(job: Job, recipe: Recipe) -> None:
    """Fine-tunes the run's standard model; writes cure.safetensors."""

    def start() -> nn.Module:
        return load_classifier(job, "standard")

    optimisation = recipes.optimisation_of(recipe)
    train_under(job, NAME, lambda model: Curvature(model, recipe), optimisation, start=start)


def load(job: Job) -> nn.Module:
    """The fine-tuned classifier, in eval mode."""
    return load_classifier(job, NAME)
