"""Adversarial training (PGD-AT; Madry et al. 2018, arXiv:1706.06083): the classifier learns from attacks on itself.

PGD: projected gradient descent. This defense is not in the paper's table. It is the baseline that others should exceed.
The MNIST recipe of Madry et al. (ε = 0.3, 40 steps) is for a larger budget than that of the paper's Table 1; our
default is for 18/255 to 26/255, from a prototype.
Adaptive attack: any white-box attack, since nothing precedes the classifier; the literature uses AutoAttack.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import nn

from grfd.attacks import pgd
from grfd.defenses import recipes
from grfd.schema import Count, Decay, Pixels, Rate, Settings, Steps
from grfd.training.classification import in_eval_mode, load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Images, Labels

NAME = "pgd-at"
TITLE = "PGD-AT"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "MNIST, ε = 0.3: 88.5 % under AutoAttack (Croce and Hein 2020, arXiv:2003.01690)."

GREY: dict[str, Any] = {"eps": 0.11, "step_size": 0.055, "steps": 3, "epochs": 8}
COLOUR: dict[str, Any] = {"eps": 8 / 255, "step_size": 2 / 255, "steps": 10, "epochs": 100}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of PGD-AT. The defaults of eps, step_size, steps and epochs depend on the images.

    Grey images: 0.11, 0.055, 3 and 8. Colour images: 8/255, 2/255, 10 and 100.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"averaging"})

    eps: Pixels | None = None
    """Radius ε of the L∞ ball of the training examples, in pixels of [0, 1]."""
    step_size: Pixels | None = None
    """Step size of PGD, in pixels of [0, 1]."""
    steps: Steps | None = None
    """Number of steps of PGD."""
    epochs: Count | None = None
    """Epochs of training."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""
    averaging: Decay = 0.0
    """Decay per step of a moving average of the weights, which is deployed. With 0, the last weights are deployed."""


class AdversarialTraining(nn.Module):
    """Cross-entropy at the last iterate of PGD, the inner maximisation of eq. 2.1; one value per example."""

    def __init__(self, classifier: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.classifier = classifier
        self.inner: dict[str, Any] = {"eps": recipe.eps, "step_size": recipe.step_size, "steps": recipe.steps}

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        with in_eval_mode(self.classifier):
            adversarial = pgd(self.classifier, images, labels, **self.inner, keep="last", active_set=False)
        return {"loss": F.cross_entropy(self.classifier(adversarial), labels, reduction="none")}


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture, and writes pgd-at.safetensors."""
    optimisation = recipes.optimisation_of(recipe)
    train_under(job, NAME, lambda model: AdversarialTraining(model, recipe), optimisation, averaging=recipe.averaging)


def load(job: Job) -> nn.Module:
    """The trained classifier, in eval mode."""
    return load_classifier(job, NAME)
