"""Defensive distillation (Papernot et al. 2016, arXiv:1511.04508): a student learns a teacher's softened answers.

Teacher and student have the same architecture and the same weights after a first epoch. Both are trained with their
logits divided by the temperature T = 100: the teacher on the labels, the student on the softmax of the teacher. The
student answers without the division, so its logits are about a hundred times as large as usual. Its softmax is 0 or 1
in float32, and the gradient of its cross-entropy is exactly 0: an attack that climbs it does not move. The margin of
the logits is as easy to climb as before.

As in the code of Carlini (carlini/nn_robust_attacks, train_models.py): T, the shared first epoch, and the same number
of epochs for both networks. What differs: AdamW with a cosine instead of SGD with momentum, and fewer epochs (scaled
by us).
Adaptive attack: the judge multiplies the logits by one factor and climbs margins, so every white-box attack is
one. The defense declares its temperature, with which the check for saturated logits flags it.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from grfd.defenses import recipes
from grfd.runs import load_weights
from grfd.schema import Count, Deviation, Rate, Settings
from grfd.training.classification import Classification, in_eval_mode, load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Optimisation, Terms
from grfd.types import Images, Labels, Logits, PerExample

NAME = "distillation"
TITLE = "distillation"
FILES = (f"{NAME}-start.safetensors", f"{NAME}-teacher.safetensors", f"{NAME}.safetensors")
LITERATURE = "no more robust than an undefended network (Carlini and Wagner 2017, arXiv:1608.04644)."
GREY: dict[str, Any] = {"epochs": 10}
COLOUR: dict[str, Any] = {"epochs": 30}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of defensive distillation. Defaults: 10 epochs for grey images, 30 for colour images."""

    temperature: Deviation = 100.0
    """T: the number by which the logits of teacher and student are divided in training."""
    epochs: Count | None = None
    """Epochs of the teacher, and of the student. The epoch that they share comes before."""
    learning_rate: Rate = 5e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""


def soft_cross_entropy(logits: Logits, teacher: Logits, temperature: float) -> PerExample:
    """−Σ softmax(teacher / T)·log softmax(logits / T), one value per example."""
    return -((teacher / temperature).softmax(1) * (logits / temperature).log_softmax(1)).sum(1)


class AtTemperature(nn.Module):
    """The teacher's objective: cross-entropy of softmax(z / T) and the label, one value per example."""

    def __init__(self, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = temperature

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        return {"loss": F.cross_entropy(self.classifier(images) / self.temperature, labels, reduction="none")}


class Distilling(nn.Module):
    """The student's objective: cross-entropy with the softmax of the teacher, both at T, one value per example."""

    def __init__(self, classifier: nn.Module, teacher: nn.Module, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.teacher = teacher.requires_grad_(False)
        self.temperature = temperature

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        with in_eval_mode(self.teacher), torch.no_grad():
            wise = self.teacher(images)
        return {"loss": soft_cross_entropy(self.classifier(images), wise, self.temperature)}


class Distilled(nn.Module):
    """The student as it is deployed, without the division by T."""

    def __init__(self, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.training_temperature = temperature

    def forward(self, images: Images) -> Logits:
        logits: Logits = self.classifier(images)
        return logits


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the shared first epoch, the teacher and the student, and writes a file for each."""
    start, teacher = f"{NAME}-start", f"{NAME}-teacher"
    optimisation = recipes.optimisation_of(recipe)
    train_under(job, start, Classification, Optimisation(1, recipe.learning_rate))

    def begun() -> nn.Module:
        model = job.architecture()
        load_weights(model, job.run.file(f"{start}.safetensors"))
        return model

    train_under(job, teacher, lambda model: AtTemperature(model, recipe.temperature), optimisation, start=begun)
    wise = load_classifier(job, teacher)
    train_under(job, NAME, lambda model: Distilling(model, wise, recipe.temperature), optimisation, start=begun)


def load(job: Job) -> nn.Module:
    """The student, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    return Distilled(load_classifier(job, NAME), recipe.temperature).eval()
