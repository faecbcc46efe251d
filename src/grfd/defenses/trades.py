"""TRADES (Zhang et al. 2019, arXiv:1901.08573): the cross-entropy at x, plus the change of the answer within the ball.

TRADES: TRadeoff-inspired Adversarial DEfense via Surrogate-loss minimization. It is not in the paper's table, and
serves as a baseline like adversarial training (`pgd_at`). Adaptive attack: any white-box attack.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from grfd.attacks.row_parallel import gradient_in_parts, is_worth_parts, rows_are_independent
from grfd.defenses import recipes
from grfd.schema import Count, Decay, Pixels, Rate, Settings, Steps, Weight
from grfd.seeds import normal_like
from grfd.training.classification import in_eval_mode, load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Images, Labels, Logits, PerExample

NAME = "trades"
TITLE = "TRADES"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "MNIST, ε = 0.3: 92.8 % under AutoAttack (the same)."

GREY: dict[str, Any] = {"eps": 0.11, "step_size": 0.04, "steps": 5, "beta": 3.0, "epochs": 8}
COLOUR: dict[str, Any] = {"eps": 8 / 255, "step_size": 2 / 255, "steps": 10, "beta": 6.0, "epochs": 100}

_START_DEVIATION = 0.001
"""Standard deviation of the noise at the start of the ascent. At x itself, the divergence has no gradient."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of TRADES. The defaults of eps, step_size, steps, beta and epochs depend on the images.

    Grey images: 0.11, 0.04, 5, 3 and 8. Colour images: 8/255, 2/255, 10, 6 and 100.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"averaging"})

    eps: Pixels | None = None
    """Radius ε of the L∞ ball of the training examples, in pixels of [0, 1]."""
    step_size: Pixels | None = None
    """Step size of the ascent, in pixels of [0, 1]."""
    steps: Steps | None = None
    """Number of steps of the ascent."""
    beta: Weight | None = None
    """Weight of the divergence, 1/λ of eq. 5. The authors' value for MNIST, 1, is for ε = 0.3."""
    epochs: Count | None = None
    """Epochs of training."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""
    averaging: Decay = 0.0
    """Decay per step of a moving average of the weights, which is deployed. With 0, the last weights are deployed."""


def divergence(logits: Logits, other: Logits) -> PerExample:
    """KL(softmax(logits) ‖ softmax(other)), the Kullback–Leibler divergence, one value per example.

    It is computed from logarithms, because a probability that underflows to 0 would have the gradient 0 · log 0, a NaN.
    """
    first, second = logits.log_softmax(1), other.log_softmax(1)
    return (first.exp() * (first - second)).sum(1)


def furthest(model: nn.Module, images: Images, eps: float, step_size: float, steps: int) -> Images:
    """The point in the ball where the answer differs most from that at x, by signed ascent on the divergence."""
    with torch.no_grad():
        logits = model(images)
    lower, upper = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    point = (images + _START_DEVIATION * normal_like(images)).clamp(lower, upper)
    in_parts = is_worth_parts(images) and rows_are_independent(model)
    for _ in range(steps):
        gradient = (_gradient_in_parts if in_parts else _gradient)(model, point, logits)
        point = (point + step_size * gradient.sign()).clamp(lower, upper)
    return point


def _gradient(model: nn.Module, point: Images, logits: Logits) -> Images:
    """The gradient of the divergence from these logits."""
    point = point.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(logits, model(point)).sum(), point)
    return gradient


def _gradient_in_parts(model: nn.Module, point: Images, logits: Logits) -> Images:
    """The same, where every core computes whole parts of the batch."""
    return gradient_in_parts(model, point, lambda others: divergence(logits, others))[0]


class Trades(nn.Module):
    """Eq. 5: CE(f(x), y) + β·KL(f(x) ‖ f(x′)), one value per example. CE: cross-entropy."""

    def __init__(self, classifier: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.classifier = classifier
        assert recipe.beta is not None
        self.beta = recipe.beta
        self.inner: dict[str, Any] = {"eps": recipe.eps, "step_size": recipe.step_size, "steps": recipe.steps}

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        with in_eval_mode(self.classifier):
            moved = furthest(self.classifier, images, **self.inner)
        logits, others = self.classifier(torch.cat([images, moved])).chunk(2)
        natural, robust = F.cross_entropy(logits, labels, reduction="none"), divergence(logits, others)
        return {"loss": natural + self.beta * robust, "natural": natural, "robust": robust}


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture, and writes trades.safetensors."""
    optimisation = recipes.optimisation_of(recipe)
    train_under(job, NAME, lambda model: Trades(model, recipe), optimisation, averaging=recipe.averaging)


def load(job: Job) -> nn.Module:
    """The trained classifier, in eval mode."""
    return load_classifier(job, NAME)
