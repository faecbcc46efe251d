"""Gradient regularisation (G.R.): Jacobian norm with selective input-gradient regularisation (J-SIGR, Liu et al. 2024).

This is **a reconstruction**, because the authors' repository does not contain the regulariser. The Frobenius norm of
the Jacobian is estimated by one random projection (Hoffman et al. 2019, arXiv:1908.02729). The input gradient is
penalised (Ross & Doshi-Velez 2018, arXiv:1711.09404) only on pixels of low saliency, here those below the median of an
image.
Adaptive attack: any white-box attack, since nothing precedes the classifier; and Square, since such penalties are known
to mask gradients.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.defenses import recipes
from grfd.schema import Count, Rate, Settings, Share, Weight
from grfd.seeds import normal_like
from grfd.training.classification import load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Images, Labels, Logits, PerExample

NAME = "gradient-regularisation"
TITLE = "G.R."
FILES = (f"{NAME}.safetensors",)
LITERATURE = (
    "no code of the original is public, so ours is a reconstruction; its nearest relatives "
    "keep 0.3 % (JARN) and 38.5 % (CURE) under AutoAttack on CIFAR-10 at 8/255 (RobustBench)."
)
GREY: dict[str, float] = {}
COLOUR: dict[str, float] = {}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of gradient regularisation."""

    jacobian: Weight = 0.01
    """Weight of ½‖J‖²_F, λ of Hoffman et al."""
    saliency: Weight = 0.1
    """Weight of the squared input gradient on pixels of low saliency."""
    share: Share = 0.5
    """The share of the pixels of an image that counts as having low saliency."""
    epochs: Count = 20
    """Epochs of training."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""


def jacobian_norm(logits: Logits, images: Images) -> PerExample:
    """An estimate of ‖∂logits/∂x‖²_F: classes · ‖∂(v·logits)/∂x‖², v a random unit vector (Hoffman et al., eq. 8)."""
    direction = F.normalize(normal_like(logits), dim=1)
    (gradient,) = torch.autograd.grad((direction * logits).sum(), images, create_graph=True)
    return logits.shape[1] * gradient.flatten(1).square().sum(1)


def unsalient(gradient: Tensor, share: float) -> PerExample:
    """Σ g² over those pixels of each image whose |g| is among the lowest `share`."""
    flat = gradient.flatten(1)
    threshold = flat.detach().abs().quantile(share, dim=1, keepdim=True)
    return (flat.square() * (flat.detach().abs() <= threshold)).sum(1)


class GradientRegularisation(nn.Module):
    """CE + ½λ_J·‖J‖²_F + λ_s·Σ_low g², one value per example. CE: cross-entropy."""

    def __init__(self, classifier: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.classifier = classifier
        self.recipe = recipe

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        points = images.detach().requires_grad_()
        logits = self.classifier(points)
        natural = F.cross_entropy(logits, labels, reduction="none")
        (gradient,) = torch.autograd.grad(natural.sum(), points, create_graph=True)
        steepness, low = jacobian_norm(logits, points), unsalient(gradient, self.recipe.share)
        loss = natural + 0.5 * self.recipe.jacobian * steepness + self.recipe.saliency * low
        return {"loss": loss, "natural": natural, "jacobian": steepness, "unsalient": low}


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture, and writes gradient-regularisation.safetensors."""
    train_under(job, NAME, lambda model: GradientRegularisation(model, recipe), recipes.optimisation_of(recipe))


def load(job: Job) -> nn.Module:
    """The trained classifier, in eval mode."""
    return load_classifier(job, NAME)
