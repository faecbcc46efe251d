"""GRFD, free: the paper's parts exchanged, and no adversarial example in training.

As published, the target model F receives the residual x − G(x). G has a bottleneck and cannot reproduce a perturbation,
so the residual contains all of it and little of the image. Here F receives what G does reproduce, G(x). G and F are
trained together with all losses of the paper, and with a penalty that makes the loss flat around each image, measured
at the image x through G.

No input that was optimised to raise the loss is trained on. The penalty may look at a point that lies one gradient
step away, as CURE does (curvature regularisation, Moosavi-Dezfooli et al. 2019, arXiv:1811.09716), or in a random
direction. This defense is ours and not the paper's. Each idea is one setting of the recipe.
Adaptive attack: end to end; every part has a useful gradient.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from grfd.attacks.losses import log_odds
from grfd.config import Config
from grfd.data.record import Data
from grfd.defenses import recipes
from grfd.defenses.grfd import GRFD, DefensePass, through
from grfd.method.losses import (
    classification_loss,
    gaussian_perturbation,
    gradient_similarity_loss,
    input_gradients,
    kl_divergence,
    reconstruction_loss,
)
from grfd.method.lvcvae import LVCVAE
from grfd.method.stages import build_generator, check_generator
from grfd.runs import load_weights
from grfd.schema import Count, Decay, Deviation, Rate, Settings, Share, Weight
from grfd.seeds import normal_like
from grfd.training.classification import in_eval_mode, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Features, Images, Labels, PerExample

NAME = "grfd-free"
TITLE = "GRFD, free"
FILES = (f"{NAME}.safetensors",)
LITERATURE = ""

GREY: dict[str, Any] = {"epochs": 6, "penalty_weight": 0.1, "step": 1.5}
COLOUR: dict[str, Any] = {"epochs": 30, "penalty_weight": 0.1, "step": 1.0}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of GRFD, free. The defaults of epochs, penalty_weight and step depend on the images.

    Grey images: 6, 0.1 and 1.5. Colour images: 30, 0.1 and 1.0.
    """

    robust_part: Literal["residual", "reconstruction", "gated"] = "reconstruction"
    """What F receives: G(x); x − G(x), as published; or both, mixed by a gate that is learned for each pixel."""
    epochs: Count | None = None
    """Epochs of the training of G and F."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""
    penalty: Literal["none", "gradient_norm", "curvature"] = "gradient_norm"
    """none; gradient_norm: the sum of absolute values of the input gradient at a point near x; or curvature: the
    Euclidean distance of that gradient from the one at x, as in CURE."""
    penalty_weight: Weight | None = None
    """Weight of the penalty, when it has been raised from 0 in the first third of training."""
    direction: Literal["none", "gradient", "random"] = "gradient"
    """Where the point near x lies: at x, one step along the sign of the gradient (CURE's), or in a random direction."""
    step: Deviation | None = None
    """Euclidean length of that step, in pixels of [0, 1]."""
    noise: Share = 0.0
    """Largest absolute value of uniform noise that is added to the training images, in pixels of [0, 1]."""
    latent: Literal["mean", "sampled_in_training", "sampled"] = "mean"
    """z: its mean μ; drawn from N(μ, σ²) in training alone; or drawn in training and for each answer."""
    reconstruction: Weight = 1.0
    """α: weight of L_rc, the mean squared error of G(x)."""
    divergence: Weight = 0.2
    """β: weight of L_kl per latent dimension."""
    rectification: Weight = 0.6
    """ε of eq. 6: weight of L_rf, the cross-entropy of f_ψ(z)."""
    robustness: Weight = 0.2
    """δ: weight of L_rb, the cosine of eq. 5."""
    robustness_of: Literal["part", "image"] = "part"
    """Where L_rb takes its gradients: at x_r as in the paper, or at x through G."""
    averaging: Decay = 0.0
    """Decay per step of a moving average of the weights, which is deployed. With 0, the last weights are deployed."""


class GatedGRFD(GRFD):
    """F receives g G(x) + (1 − g) (x − G(x)). The gate g in (0, 1) is learned, one for each pixel and channel.

    g is the same for all images. It starts at 1/2, where F receives x/2.
    """

    def __init__(self, generator: LVCVAE, target: nn.Module, shape: tuple[int, ...], *, sampled: bool = False) -> None:
        super().__init__(generator, target, sampled=sampled)
        self.gate = nn.Parameter(torch.zeros(shape))

    def divide(self, images: Images, reconstructed: Features) -> tuple[Features, Features]:
        """(x_u, x_r), whose sum is x."""
        gate = self.gate.sigmoid()
        robust = gate * reconstructed + (1 - gate) * (images - reconstructed)
        return images - robust, robust


class FreeTraining(nn.Module):
    """Cross-entropy of F(x_r), the paper's losses, and the penalty, one value per example."""

    def __init__(self, defense: GRFD, recipe: Recipe, sigma: float) -> None:
        super().__init__()
        self.defense = defense
        self.recipe = recipe
        self.sigma = sigma

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        recipe = self.recipe
        if recipe.noise:
            images = (images + recipe.noise * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
        if recipe.penalty == "none" or not recipe.penalty_weight:
            passed, penalty = through(self.defense, images), Terms()
        else:
            passed, penalty = self._penalised(images, labels)
        terms = penalty | {"classification": classification_loss(passed.logits, labels)}
        terms |= self._published(images, labels, passed)
        weights = {"classification": 1.0, "penalty": min(3 * progress, 1.0) * (recipe.penalty_weight or 0.0)}
        weights |= {name: getattr(recipe, name) for name in terms if name not in weights}
        total = sum((weights[name] * value for name, value in terms.items()), torch.zeros_like(terms["classification"]))
        return {"loss": total, **terms}

    def _penalised(self, images: Images, labels: Labels) -> tuple[DefensePass, Terms]:
        """The pass of the images, and the penalty. Batch norm sees x and the point near it as one batch."""
        both = torch.cat([images, images + self._move(images, labels)]).requires_grad_()
        passes = through(self.defense, both)
        losses = F.cross_entropy(passes.logits, labels.repeat(2), reduction="none")
        (gradients,) = torch.autograd.grad(losses.sum(), both, create_graph=True)
        here, there = gradients.flatten(1).chunk(2)
        if self.recipe.penalty == "gradient_norm":
            return passes.halves()[0], {"penalty": there.abs().sum(1)}
        # 1e-12, because the square root has no derivative at 0
        return passes.halves()[0], {"penalty": ((there - here).square().sum(1) + 1e-12).sqrt()}

    def _move(self, images: Images, labels: Labels) -> Images:
        """The step to the point near x, of the recipe's length."""
        if self.recipe.direction == "none":
            return torch.zeros_like(images)
        if self.recipe.direction == "random":
            direction = normal_like(images)
        else:
            with in_eval_mode(self.defense):
                point = images.detach().clone().requires_grad_()
                (direction,) = torch.autograd.grad(log_odds(self.defense(point), labels).sum(), point)
        assert self.recipe.step is not None
        return self.recipe.step * F.normalize(direction.sign().flatten(1), dim=1).view_as(images)

    def _published(self, images: Images, labels: Labels, passed: DefensePass) -> Terms:
        """The losses of eq. 2 and eq. 5. Those with weight 0 are not computed."""
        recipe = self.recipe
        terms: Terms = {}
        if recipe.reconstruction:
            terms["reconstruction"] = reconstruction_loss(passed.reconstructed, images)
        if recipe.divergence:
            size = images.shape[1] * passed.mean.shape[1]
            terms["divergence"] = kl_divergence(passed.mean, passed.log_variance) / size
        if recipe.rectification:
            terms["rectification"] = classification_loss(self.defense.generator.rectify(passed.latents), labels)
        if recipe.robustness:
            terms["robustness"] = self._robustness(images, labels, passed)
        return terms

    def _robustness(self, images: Images, labels: Labels, passed: DefensePass) -> PerExample:
        """L_rb of eq. 5, at x_r for F, or at x for F and G together."""
        model, point = (
            (self.defense.target, passed.robust) if self.recipe.robustness_of == "part" else (self.defense, images)
        )
        _, gradients, perturbed = input_gradients(model, point, gaussian_perturbation(point, scale=self.sigma), labels)
        return gradient_similarity_loss(gradients, perturbed)


def _build(job: Job, recipe: Recipe, *, sampled: bool) -> GRFD:
    generator = build_generator(job.run.config, job.data)
    if recipe.robust_part == "gated":
        return GatedGRFD(generator, job.architecture(), tuple(job.data.train.images.shape[1:]), sampled=sampled)
    return GRFD(generator, job.architecture(), sampled=sampled, kind=recipe.robust_part)


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images that the LVCVAE does not take, and where it needs more memory than there is."""
    check_generator(config, data)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains G and F together, and writes grfd-free.safetensors."""

    def objective(defense: nn.Module) -> nn.Module:
        assert isinstance(defense, GRFD)
        return FreeTraining(defense, recipe, job.run.config.sigma)

    def start() -> nn.Module:
        return _build(job, recipe, sampled=recipe.latent != "mean")

    train_under(job, NAME, objective, recipes.optimisation_of(recipe), start=start, averaging=recipe.averaging)


def load(job: Job) -> GRFD:
    """The trained defense, in eval mode; with z = μ, unless the recipe also draws z for each answer."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    defense = _build(job, recipe, sampled=recipe.latent == "sampled")
    load_weights(defense, job.run.file(f"{NAME}.safetensors"))
    return defense.eval()
