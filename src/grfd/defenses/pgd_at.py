"""PGD adversarial training (Madry et al. 2018, arXiv:1706.06083): the classifier is trained on PGD examples of itself.

Not in the paper's table, and the yardstick: what a defense has to be better than. Nothing stands before the classifier,
so the adaptive attack is any white-box attack; the literature's is AutoAttack. Madry's MNIST recipe (ε 0.3, 40 steps)
is made for a larger budget than Table 1's; the default is a prototype's for 18 to 26/255.
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
    """PGD-AT. What is not given is 0.11, 0.055, 3, 8 for grey images, 8/255, 2/255, 10, 100 for colour."""

    LATER: ClassVar[frozenset[str]] = frozenset({"averaging"})

    eps: Pixels | None = None
    """Ball of the training examples, L∞, in pixels of [0, 1]."""
    step_size: Pixels | None = None
    """PGD's, in pixels of [0, 1]."""
    steps: Steps | None = None
    """PGD's."""
    epochs: Count | None = None
    learning_rate: Rate = 1e-3
    """AdamW's, falling to 0 along a cosine."""
    averaging: Decay = 0.0
    """Decay a step of a moving average of the weights, which is what is deployed; 0: the last weights."""


class AdversarialTraining(nn.Module):
    """Cross-entropy at PGD's last iterate (eq. 2.1's inner maximisation), one value an example."""

    def __init__(self, classifier: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.classifier = classifier
        self.inner: dict[str, Any] = {"eps": recipe.eps, "step_size": recipe.step_size, "steps": recipe.steps}

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        with in_eval_mode(self.classifier):
            adversarial = pgd(self.classifier, images, labels, **self.inner, keep="last", active_set=False)
        return {"loss": F.cross_entropy(self.classifier(adversarial), labels, reduction="none")}


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture; writes pgd-at.safetensors."""
    optimisation = recipes.optimisation_of(recipe)
    train_under(job, NAME, lambda model: AdversarialTraining(model, recipe), optimisation, averaging=recipe.averaging)


def load(job: Job) -> nn.Module:
    """The trained classifier, in eval mode."""
    return load_classifier(job, NAME)
