"""N-FGSM, single-step adversarial training with noise (de Jorge et al. 2022, arXiv:2202.01181).

One gradient for each training example instead of ten: the example is x + η + ε·sign(∇l(x + η)), where η is uniform
noise up to k·ε. It is not projected onto the ball of radius ε, which is what keeps single-step training from the
collapse that is called catastrophic overfitting. This defense is not in the paper; it is for short budgets.
As in the authors' code, k = 2, the step is ε, and nothing is clipped but to the range of pixels.
Adaptive attack: any white-box attack, since nothing precedes the classifier.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from grfd.attacks.losses import log_odds
from grfd.defenses import recipes
from grfd.schema import Count, Decay, Pixels, Rate, Settings, Weight
from grfd.training.classification import in_eval_mode, load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Images, Labels

NAME = "n-fgsm"
TITLE = "N-FGSM"
FILES = (f"{NAME}.safetensors",)
LITERATURE = ""

GREY: dict[str, Any] = {"eps": 0.11, "epochs": 8}
COLOUR: dict[str, Any] = {"eps": 8 / 255, "epochs": 30}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of N-FGSM. The defaults of eps and epochs are 0.11 and 8 for grey images, 8/255 and 30 for colour."""

    eps: Pixels | None = None
    """Length ε of the step, in pixels of [0, 1]."""
    noise: Weight = 2.0
    """k: the noise before the step is uniform up to k·ε."""
    epochs: Count | None = None
    """Epochs of training."""
    start: Literal["fresh", "standard"] = "fresh"
    """Initial weights: those of the architecture, or those of the standard model, which is fine-tuned."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""
    averaging: Decay = 0.0
    """Decay per step of a moving average of the weights, which is deployed. With 0, the last weights are deployed."""


class NoisyStep(nn.Module):
    """Cross-entropy at x + η + ε·sign(∇l(x + η)), one value per example."""

    def __init__(self, classifier: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.classifier = classifier
        assert recipe.eps is not None
        self.eps = recipe.eps
        self.noise = recipe.noise * recipe.eps

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        start = (images + self.noise * (2 * torch.rand_like(images) - 1)).requires_grad_()
        with in_eval_mode(self.classifier):
            (gradient,) = torch.autograd.grad(log_odds(self.classifier(start), labels).sum(), start)
        stepped = (start.detach() + self.eps * gradient.sign()).clamp(0, 1)
        return {"loss": F.cross_entropy(self.classifier(stepped), labels, reduction="none")}


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture or fine-tunes the standard model, and writes n-fgsm.safetensors."""

    def start() -> nn.Module:
        return load_classifier(job, "standard") if recipe.start == "standard" else job.architecture()

    optimisation = recipes.optimisation_of(recipe)
    train_under(
        job, NAME, lambda model: NoisyStep(model, recipe), optimisation, start=start, averaging=recipe.averaging
    )


def load(job: Job) -> nn.Module:
    """The trained classifier, in eval mode."""
    return load_classifier(job, NAME)
