"""CD-VAE: a class-disentangled variational autoencoder (VAE) reconstructs the image, and a classifier follows.

Yang et al. 2021 (NeurIPS 34, "Class-Disentanglement and Applications in Adversarial Detection and Defense").
Stage 1: a VAE G and a classifier D_r compete for the image. G reconstructs x, and D_r classifies x − G(x), which
therefore keeps what determines the class. Stage 2, the defense: G, D_r and a classifier D_g of G(x), which starts as
the standard model, are trained on adversarial examples of D_g(G(x)). The deployed defense is **D_g(G(x))**, not
D_r(x − G(x)), with random z, as in the authors' code. Their weights and optimisers (SGD, 300 and 150 epochs, WRN-28-10)
are for CIFAR. For grey images G has the shape of LeNet, like the target model. The authors normalise first; here images
stay in [0, 1].
Adaptive attack: end to end through G, in expectation over z where z is random.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.attacks import pgd
from grfd.attacks.losses import margin
from grfd.config import Config
from grfd.data.record import Data
from grfd.defenses import recipes
from grfd.method.losses import kl_divergence, reconstruction_loss
from grfd.method.lvcvae import lenet_lvcvae, sample
from grfd.method.residual import feature_shape, residual_decoder, residual_encoder
from grfd.runs import load_weights, write_tensors
from grfd.schema import Count, Pixels, Rate, Settings, Size, Steps, Thirds, Weight
from grfd.seeds import seeded
from grfd.training.classification import in_eval_mode, load_classifier, train_classifier, training_split
from grfd.training.job import Job
from grfd.training.loop import Optimisation, Terms, fit_objective
from grfd.types import Features, Images, Labels, Latents, Logits, PerExample

NAME = "cd-vae"
TITLE = "CD-VAE"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "no table of robust accuracy under an attacker who knows the defense was found."
_STAGE_ONE = f"{NAME}-stage-one"
GREY: dict[str, Any] = {"eps": 0.11, "step_size": 0.03, "epochs": 20, "adversarial_epochs": 8, "latent": 256}
COLOUR: dict[str, Any] = {
    "eps": 8 / 255,
    "step_size": 2 / 255,
    "epochs": 300,
    "adversarial_epochs": 150,
    "latent": 2048,
}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of CD-VAE. The defaults of eps, step_size, epochs, adversarial_epochs and latent depend on the images.

    Grey images: 0.11, 0.03, 20, 8 and 256. Colour images: 8/255, 2/255, 300, 150 and 2048.
    """

    reconstruction: Thirds = (10.0, 5.0, 1.0)
    """Weight of the squared error in each third of stage 1."""
    classification: Weight = 0.2
    """Weight of the cross-entropy of D_r in stage 1."""
    kl: Weight = 0.2
    """Weight of the Kullback–Leibler divergence in stage 1, per channel and latent dimension."""
    residual: Weight = 0.1
    """Weight of the cross-entropy of D_r in stage 2, for the class that the attack leads to."""
    defended: Weight = 0.1
    """Weight of the cross-entropy of D_g in stage 2, on the examples within the margin."""
    adversarial_kl: Weight = 0.01
    """Weight of the Kullback–Leibler divergence in stage 2."""
    margin: Weight = 8.0
    """Stage 2 trains D_g on examples whose true logit exceeds the others by less than this."""
    eps: Pixels | None = None
    """Radius ε of the L∞ ball of the training examples, in pixels of [0, 1]."""
    step_size: Pixels | None = None
    """Step size of PGD, in pixels of [0, 1]."""
    steps: Steps = 10
    """Number of steps of PGD (projected gradient descent), whose loss is the margin."""
    latent: Size | None = None
    """Number of latent dimensions."""
    sampled: bool = True
    """Whether z is random in the deployed defense, as in the authors' code, or equal to its mean μ."""
    epochs: Count | None = None
    """Epochs of stage 1."""
    adversarial_epochs: Count | None = None
    """Epochs of stage 2."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW in both stages, which decays to 0 along a cosine."""


class ConvVAE(nn.Module):
    """The authors' VAE for colour images, deeper for larger ones. It ends with a batch norm."""

    def __init__(self, channels: int, height: int, width: int, latent: int) -> None:
        super().__init__()
        features = math.prod(feature_shape(height, width))
        self.encoder = residual_encoder(channels, height, width)
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, features),
            *residual_decoder(channels, height, width),
            nn.Tanh(),
            nn.BatchNorm2d(channels),
        )

    def encode(self, images: Images) -> tuple[Latents, Latents]:
        hidden = self.encoder(images)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, latents: Latents) -> Features:
        return self.decoder(latents)


class CDVAE(nn.Module):
    """x ↦ D_g(G(x)), with random z where `stochastic` is true."""

    def __init__(self, vae: nn.Module, classifier: nn.Module, *, sampled: bool) -> None:
        super().__init__()
        self.vae = vae
        self.classifier = classifier
        self.stochastic = sampled

    def deterministic(self) -> "CDVAE":
        """The same defense with z = μ."""
        return CDVAE(self.vae, self.classifier, sampled=False).train(self.training)

    def seen(self, images: Images) -> Features:
        mean, log_variance = self.vae.encode(images)  # type: ignore[operator]
        return self.vae.decode(sample(mean, log_variance) if self.stochastic else mean)  # type: ignore[operator]

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))


class Disentangling(nn.Module):
    """Stage 1: α·MSE(G(x), x) + 0.2·CE(D_r(x − G(x)), y) + 0.2·KL, one value per example.

    MSE: mean squared error. CE: cross-entropy. KL: Kullback–Leibler divergence of the latent variables.
    """

    def __init__(self, vae: nn.Module, residual: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.vae = vae
        self.residual = residual
        self.recipe = recipe

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        reconstructed, divergence = _reconstructed(self.vae, images)
        likeness = reconstruction_loss(reconstructed, images)
        classification = F.cross_entropy(self.residual(images - reconstructed), labels, reduction="none")
        weight = self.recipe.reconstruction[min(int(3 * progress), 2)]
        loss = weight * likeness + self.recipe.classification * classification + self.recipe.kl * divergence
        return {"loss": loss, "rc": likeness, "cl": classification, "kl": divergence}


class Defending(nn.Module):
    """Stage 2, on adversarial x′: G learns to return x, D_r the wrong prediction, and D_g the right one."""

    def __init__(self, vae: nn.Module, residual: nn.Module, classifier: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.vae = vae
        self.residual = residual
        self.classifier = classifier
        self.recipe = recipe

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        recipe, pipeline = self.recipe, CDVAE(self.vae, self.classifier, sampled=True)
        with in_eval_mode(self):
            budget: dict[str, Any] = {"eps": recipe.eps, "step_size": recipe.step_size, "steps": recipe.steps}
            adversarial = pgd(pipeline.eval(), images, labels, **budget, loss="margin", keep="last", active_set=False)
            with torch.no_grad():
                attacked = pipeline(adversarial)
        reconstructed, divergence = _reconstructed(self.vae, adversarial)
        likeness = reconstruction_loss(reconstructed, images)
        residual = F.cross_entropy(self.residual(adversarial - reconstructed), attacked.argmax(1), reduction="none")
        defended = F.cross_entropy(self.classifier(reconstructed), labels, reduction="none") * within(
            attacked, labels, recipe.margin
        )
        loss = likeness + recipe.residual * residual + recipe.defended * defended
        loss = loss + recipe.adversarial_kl * divergence
        return {"loss": loss, "rc": likeness, "residual": residual, "defended": defended, "kl": divergence}


def within(logits: Logits, labels: Labels, least: float) -> Tensor:
    """1 where the true logit exceeds the largest other by less than `least`, else 0: the "margin violators"."""
    return (-margin(logits, labels) < least).to(logits.dtype)


def _reconstructed(vae: nn.Module, images: Images) -> tuple[Features, PerExample]:
    """G(x) with random z, and the Kullback–Leibler divergence per channel and latent dimension."""
    mean, log_variance = vae.encode(images)  # type: ignore[operator]
    divergence = kl_divergence(mean, log_variance) / (images.shape[1] * mean.shape[1])
    return vae.decode(sample(mean, log_variance)), divergence  # type: ignore[operator]


def _build(data: Data, recipe: Recipe) -> nn.Module:
    channels, height, width = data.train.images.shape[1:]
    assert recipe.latent is not None
    if channels == 1:
        return lenet_lvcvae(channels, len(data.classes), height, width, recipe.latent)
    return ConvVAE(channels, height, width, recipe.latent)


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images whose size the VAE does not preserve."""
    recipes.require_multiples(NAME, data, 4, least=12 if data.train.images.shape[1] == 1 else 4)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains both stages, and writes cd-vae-stage-one.safetensors and cd-vae.safetensors."""
    if job.run.has(f"{NAME}.safetensors"):
        return
    train_classifier(job, "standard")
    assert recipe.epochs is not None and recipe.adversarial_epochs is not None
    split = training_split(job)

    def inputs(epoch: int) -> tuple[Tensor, Tensor]:
        return split.images, split.labels

    with seeded(job.run.config.seed, NAME, "weights"):
        first = Disentangling(_build(job.data, recipe), job.architecture(), recipe)
    if job.run.has(f"{_STAGE_ONE}.safetensors"):
        load_weights(first, job.run.file(f"{_STAGE_ONE}.safetensors"))
    else:
        fit_objective(job.run, _STAGE_ONE, first, inputs, Optimisation(recipe.epochs, recipe.learning_rate))
        write_tensors(job.run.file(f"{_STAGE_ONE}.safetensors"), first.state_dict())
    second = Defending(first.vae, first.residual, load_classifier(job, "standard"), recipe)
    fit_objective(job.run, NAME, second, inputs, Optimisation(recipe.adversarial_epochs, recipe.learning_rate))
    deployed = CDVAE(second.vae, second.classifier, sampled=recipe.sampled)
    write_tensors(job.run.file(f"{NAME}.safetensors"), deployed.state_dict())


def load(job: Job) -> nn.Module:
    """G followed by D_g, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    defense = CDVAE(_build(job.data, recipe), job.architecture(), sampled=recipe.sampled)
    load_weights(defense, job.run.file(f"{NAME}.safetensors"))
    return defense.eval()
