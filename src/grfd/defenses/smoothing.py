"""Randomized smoothing (R.S.; Cohen et al. 2019, arXiv:1902.02918): a majority vote of a classifier under noise.

The classifier is trained on x + N(0, σ²). The deployed defense answers with the class that wins most of n noisy votes.
`certify` gives a radius within which no L2 perturbation changes the answer. Cohen et al. have no recipe for MNIST.
Adaptive attack: SmoothAdv (Salman et al. 2019, arXiv:1906.04584), whose loss is −log of the softmax averaged over
noises. The judge attacks all stochastic defenses in this way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Annotated

import scipy
import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from grfd import schema
from grfd.defenses import recipes
from grfd.errors import UserError
from grfd.schema import Count, Deviation, Examples, Level, Rate, Settings
from grfd.seeds import normal_like
from grfd.training.classification import load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Features, Images, Labels, Logits

NAME = "randomized-smoothing"
TITLE = "R.S."
FILES = (f"{NAME}.safetensors",)
LITERATURE = (
    "certified on CIFAR-10 with σ = 0.25, within 1, 2 and 4/255: 62.2, 47.0 and 19.6 %, at "
    "74.8 % clean (logs of Cohen et al. 2019, arXiv:1902.02918)."
)
GREY: dict[str, float] = {"epochs": 20}
COLOUR: dict[str, float] = {"epochs": 90}

ABSTAIN = -1
"""The answer of `predict_class` and `certify` where the votes are not decisive."""

_NOISES_AT_ONCE = 1000
"""Number of noises in one pass."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of randomized smoothing. The default of epochs is 20 for grey images, and the authors' 90 for colour."""

    sigma: Deviation = 0.25
    """Standard deviation of the noise, in pixels of [0, 1]."""
    votes: Count = 100
    """Number n of votes in the deployed defense."""
    epochs: Count | None = None
    """Epochs of training."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""


class UnderNoise(nn.Module):
    """Cross-entropy at x + N(0, σ²) (section 3.3), one value per example."""

    def __init__(self, classifier: nn.Module, sigma: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.sigma = sigma

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        logits = self.classifier(images + self.sigma * normal_like(images))
        return {"loss": F.cross_entropy(logits, labels, reduction="none")}


class Smoothed(nn.Module):
    """One vote: the answer of the classifier with one draw of noise for each image. The judge asks `votes` times."""

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


@dataclass(frozen=True)
class NoisyClassifier:
    """A classifier under noise, as `predict_class` and `certify` need it."""

    classifier: Callable[[Images], Logits]
    sigma: float
    """Standard deviation of the Gaussian noise, in pixels of [0, 1]."""
    classes: int


@torch.no_grad()
def votes(noisy: NoisyClassifier, image: Tensor, n: int) -> Tensor:
    """The number of votes for each class, out of n noises of one image [channel, height, width]: int64 [classes]."""
    counts = torch.zeros(noisy.classes, dtype=torch.int64)
    for start in range(0, n, _NOISES_AT_ONCE):
        noise = torch.randn(min(_NOISES_AT_ONCE, n - start), *image.shape, device=image.device)
        logits = noisy.classifier(image + noisy.sigma * noise)
        _check_logits(logits, len(noise), noisy.classes)
        counts += logits.argmax(1).bincount(minlength=noisy.classes).cpu()
    return counts


def _check_logits(logits: Logits, images: int, classes: int) -> None:
    """Raises `UserError` for logits of another shape, or with NaN."""
    if not isinstance(logits, Tensor) or logits.shape != (images, classes):
        answer = tuple(logits.shape) if isinstance(logits, Tensor) else schema.quoted(logits)
        raise UserError(f"the classifier answers with {answer}: expected logits of {(images, classes)}")
    if logits.isnan().any():
        raise UserError("the classifier answers with NaN: expected finite logits")


def _check_settings(noisy: NoisyClassifier, image: Tensor, alpha: float, **samples: int) -> None:
    """Raises `UserError` for arguments of `predict_class` or `certify` of a wrong type or out of range."""
    if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point() or not image.isfinite().all():
        kind = tuple(image.shape) if isinstance(image, Tensor) else schema.quoted(image)
        raise UserError(f"image must be a finite float tensor [channel, height, width], got {kind}")
    schema.value("sigma", Deviation, noisy.sigma)
    schema.value("classes", Annotated[int, Interval(ge=2, le=1_000_000)], noisy.classes)
    schema.value("alpha", Level, alpha)
    for name, number in samples.items():
        schema.value(name, Examples, number)


def predict_class(noisy: NoisyClassifier, image: Tensor, n: int = 100, alpha: float = 0.001) -> int:
    """The class with the most votes, or `ABSTAIN` where its lead is not significant at level α (PREDICT, figure 3).

    Raises `UserError` for arguments out of range, and where n is so small that even n equal votes are not significant.
    """
    _check_settings(noisy, image, alpha, n=n)
    _check_enough(n, alpha, lambda votes: by_chance(votes, 0) <= alpha, "decide")
    counts = votes(noisy, image, n).sort(descending=True)
    first, second = counts.values[:2].tolist()
    return int(counts.indices[0]) if by_chance(first, second) <= alpha else ABSTAIN


def certify(
    noisy: NoisyClassifier, image: Tensor, n0: int = 100, n: int = 1000, alpha: float = 0.001
) -> tuple[int, float]:
    """(class, radius): with probability 1 − α, no perturbation of smaller Euclidean length changes the answer.

    CERTIFY of figure 3: n0 noises choose the class, and n others give a lower bound of its probability
    (Clopper–Pearson, exact). The radius, in pixels of [0, 1], is σ·Φ⁻¹(bound). Returns (`ABSTAIN`, 0) where the bound
    is not above ½.
    Raises `UserError` for arguments out of range, and where n is so small that even n equal votes certify nothing.
    """
    _check_settings(noisy, image, alpha, n0=n0, n=n)
    _check_enough(n, alpha, lambda votes: lower_bound(votes, votes, alpha) > 0.5, "certify")
    chosen = int(votes(noisy, image, n0).argmax())
    won = int(votes(noisy, image, n)[chosen])
    lower = lower_bound(won, n, alpha)
    return (chosen, float(noisy.sigma * scipy.special.ndtri(lower))) if lower > 0.5 else (ABSTAIN, 0.0)


def _check_enough(n: int, alpha: float, suffices: Callable[[int], bool], purpose: str) -> None:
    """Raises `UserError` where n votes are too few even if all of them are for one class."""
    if not suffices(n):
        needed = next(votes for votes in count(n + 1) if suffices(votes))
        raise UserError(
            f"n = {n} samples cannot {purpose} anything at alpha = {alpha:g}, even if all agree: "
            f"expected at least {needed} samples"
        )


def lower_bound(won: int, n: int, alpha: float) -> float:
    """The one-sided bound of Clopper and Pearson: with probability 1 − α, the probability is at least this."""
    return float(scipy.special.betaincinv(won, n - won + 1, alpha)) if won else 0.0


def by_chance(first: int, second: int) -> float:
    """Two-sided binomial test: the probability that a fair coin divides the votes at least as unevenly."""
    return min(1.0, 2 * float(scipy.special.bdtr(min(first, second), first + second, 0.5)))


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture under noise, and writes randomized-smoothing.safetensors."""
    train_under(job, NAME, lambda model: UnderNoise(model, recipe.sigma), recipes.optimisation_of(recipe))


def load(job: Job) -> nn.Module:
    """The smoothed classifier, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    return Smoothed(load_classifier(job, NAME), recipe.sigma, recipe.votes).eval()
