"""R.S.: randomized smoothing (Cohen et al. 2019, arXiv:1902.02918): the majority of a classifier's answers under noise.

The classifier is trained on x + N(0, σ²). Deployed, the answer to an image is that of most of n noises; `certify` gives
a radius within which no L2 perturbation changes it. Cohen publishes no MNIST recipe.
Adaptive attack: SmoothAdv (Salman et al. 2019, arXiv:1906.04584), −log of the mean softmax over noises, which is how
the judge attacks whatever is stochastic.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.special import bdtr, betaincinv, ndtri
from torch import Tensor, nn

from grfd.data.record import Data
from grfd.defenses import recipes
from grfd.models import Architecture
from grfd.runs import Run
from grfd.seeds import normal_like
from grfd.training.classification import load_classifier, train_under
from grfd.training.loop import Terms
from grfd.types import Features, Images, Labels, Logits

NAME = "randomized-smoothing"
FILES = (f"{NAME}.safetensors",)
GREY: dict[str, float] = {"epochs": 20}
COLOUR: dict[str, float] = {"epochs": 90}

ABSTAIN = -1
"""The answer of `predict` and `certify` where the votes do not decide."""

AT_ONCE = 1000
"""Noises in one pass."""


@dataclass(frozen=True)
class Recipe:
    """Randomized smoothing."""

    sigma: float = 0.25
    """Deviation of the noise, in pixels of [0, 1]."""
    votes: int = 100
    """n of the deployed majority vote."""
    epochs: int | None = None
    """20 for grey images, the authors' 90 for colour, where it is not given."""
    learning_rate: float = 1e-3
    """AdamW's, falling to 0 along a cosine."""


class UnderNoise(nn.Module):
    """Cross-entropy at x + N(0, σ²), one value an example (section 3.3)."""

    def __init__(self, classifier: nn.Module, sigma: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.sigma = sigma

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        logits = self.classifier(images + self.sigma * normal_like(images))
        return {"loss": F.cross_entropy(logits, labels, reduction="none")}


class Smoothed(nn.Module):
    """One vote: the classifier's answer under one draw of noise for each image. The judge asks `votes` times."""

    stochastic = True

    def __init__(self, classifier: nn.Module, sigma: float, votes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.sigma = sigma
        self.votes = votes

    def deterministic(self) -> nn.Module:
        """The classifier without noise, for the `whitebox` protocol."""
        return self.classifier

    def seen(self, images: Images) -> Features:
        return images + self.sigma * torch.randn_like(images)

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))


@torch.no_grad()
def votes(classifier: Callable[[Images], Logits], image: Tensor, sigma: float, n: int, classes: int) -> Tensor:
    """How many of n noises each class wins, for one image [channel, height, width]: int64 [classes]."""
    counts = torch.zeros(classes, dtype=torch.int64)
    for start in range(0, n, AT_ONCE):
        noisy = image + sigma * torch.randn(min(AT_ONCE, n - start), *image.shape, device=image.device)
        counts += classifier(noisy).argmax(1).bincount(minlength=classes).cpu()
    return counts


def predict(
    classifier: Callable[[Images], Logits],
    image: Tensor,
    sigma: float,
    classes: int,
    n: int = 100,
    alpha: float = 0.001,
) -> int:
    """The class that wins, or `ABSTAIN` where its lead over the second may be chance at level α (PREDICT, fig. 3)."""
    counts = votes(classifier, image, sigma, n, classes).sort(descending=True)
    first, second = counts.values[:2].tolist()
    return int(counts.indices[0]) if by_chance(first, second) <= alpha else ABSTAIN


def certify(
    classifier: Callable[[Images], Logits],
    image: Tensor,
    sigma: float,
    classes: int,
    n0: int = 100,
    n: int = 1000,
    alpha: float = 0.001,
) -> tuple[int, float]:
    """(class, radius): no perturbation of smaller Euclidean length changes the answer, but with probability α.

    CERTIFY of fig. 3: n0 noises choose the class, n others bound its probability from below (Clopper–Pearson, exact);
    radius σ·Φ⁻¹(bound), or (`ABSTAIN`, 0) where the bound is not above ½.
    """
    chosen = int(votes(classifier, image, sigma, n0, classes).argmax())
    won = int(votes(classifier, image, sigma, n, classes)[chosen])
    lower = lower_bound(won, n, alpha)
    return (chosen, float(sigma * ndtri(lower))) if lower > 0.5 else (ABSTAIN, 0.0)


def lower_bound(won: int, n: int, alpha: float) -> float:
    """One-sided Clopper–Pearson: the probability is at least this, but with probability α."""
    return float(betaincinv(won, n - won + 1, alpha)) if won else 0.0


def by_chance(first: int, second: int) -> float:
    """Two-sided binomial test: how likely a fair coin is to part so many votes at least as unevenly."""
    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5)))


def fit(run: Run, data: Data, architecture: Architecture, recipe: Recipe) -> None:
    """Trains the target's architecture under noise; writes randomized-smoothing.safetensors."""
    train_under(run, NAME, data, architecture, lambda model: UnderNoise(model, recipe.sigma), recipe)


def load(run: Run, data: Data, architecture: Architecture) -> nn.Module:
    """The smoothed classifier, in eval mode."""
    recipe = recipes.recall(run, NAME, Recipe)
    return Smoothed(load_classifier(run, NAME, architecture), recipe.sigma, recipe.votes).eval()
