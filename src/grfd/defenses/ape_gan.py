"""APE-GAN (Jin et al. 2019, arXiv:1707.05474): a generator removes the perturbation before the standard model.

APE-GAN: Adversarial Perturbation Elimination with a Generative Adversarial Network. It is trained on FGSM (Fast
Gradient Sign Method) examples of the standard model. Generator and discriminator are those of a reimplementation
(owruby/APE-GAN), with four and three strided convolutions, batch norm and leaky rectifiers. That generator ends in tanh
although its images are in [0, 1]; here images are scaled to [−1, 1] before it and back after it. Each step updates both
networks with their own losses, while that code takes two generator steps for each discriminator step.
Adaptive attack: back-propagation through the generator, which has a useful gradient everywhere. Carlini & Wagner 2017
(arXiv:1711.08478) broke the defense in this way.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from grfd.attacks import fgsm
from grfd.config import Config
from grfd.data.record import Data
from grfd.defenses import recipes
from grfd.runs import load_weights, write_tensors
from grfd.schema import Count, Pixels, Rate, Settings, Weight
from grfd.seeds import seeded
from grfd.training.classification import in_eval_mode, load_classifier, train_classifier, training_split
from grfd.training.job import Job
from grfd.training.loop import Optimisation, Terms, fit_objective
from grfd.types import Images, Labels, Logits

NAME = "ape-gan"
TITLE = "APE-GAN"
FILES = (f"{NAME}.safetensors", "standard.safetensors")
LITERATURE = "broken end to end (Carlini and Wagner 2017, arXiv:1711.08478)."
GREY: dict[str, Any] = {"eps": 0.15, "epochs": 2}
COLOUR: dict[str, Any] = {"eps": 0.01, "epochs": 30}

_SLOPE = 0.2
"""Slope of the leaky rectifiers for negative inputs."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of APE-GAN. Defaults: eps 0.15 and 2 epochs for grey images, 0.01 and 30 for colour images."""

    eps: Pixels | None = None
    """ε of FGSM, in pixels of [0, 1]."""
    likeness: Weight = 0.7
    """ξ₁, the weight of the squared error of the generator."""
    deceit: Weight = 0.3
    """ξ₂, the weight of the adversarial loss of the generator."""
    epochs: Count | None = None
    """Epochs of generator and discriminator."""
    learning_rate: Rate = 2e-4
    """Learning rate of Adam with β₁ = 0.5, which decays to 0 along a cosine."""


class Generator(nn.Module):
    """Images in [0, 1], with sides that are multiples of 4 → images in [0, 1] of the same size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 4, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(64, 128, 4, stride=2, padding=1),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(_SLOPE),
            nn.ConvTranspose2d(64, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, images: Images) -> Images:
        return (self.layers(2 * images - 1) + 1) / 2


def discriminator(channels: int, height: int, width: int) -> nn.Sequential:
    """Images → one logit each: positive for a clean image, negative for one that the generator returned."""
    rows, columns = (-(-side // 8) for side in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 64, 3, stride=2, padding=1),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(_SLOPE),
        nn.Conv2d(128, 256, 3, stride=2, padding=1),
        nn.BatchNorm2d(256),
        nn.LeakyReLU(_SLOPE),
        nn.Flatten(),
        nn.Linear(256 * rows * columns, 1),
        nn.Flatten(0),
    )


class Game(nn.Module):
    """The losses of both networks in one backward pass (section 3.2). Neither loss reaches the other network."""

    def __init__(self, generator: Generator, judge: nn.Module, victim: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.generator = generator
        self.judge = judge
        self.victim = victim.requires_grad_(False)
        self.recipe = recipe

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        assert self.recipe.eps is not None
        with in_eval_mode(self.victim):
            adversarial = fgsm(self.victim, images, labels, eps=self.recipe.eps, active_set=False)
        restored = self.generator(adversarial)
        real, generated = self.judge(images), self.judge(restored.detach())
        discrimination = _from_one(real) + _from_zero(generated)
        fixed = {name: weight.detach() for name, weight in self.judge.named_parameters()}
        deceived = _from_one(functional_call(self.judge, fixed, restored))
        likeness = (restored - images).square().flatten(1).mean(1)
        loss = self.recipe.likeness * likeness + self.recipe.deceit * deceived + discrimination
        return {"loss": loss, "likeness": likeness, "deceived": deceived, "told apart": discrimination}


def _from_one(logits: Tensor) -> Tensor:
    return F.softplus(-logits)


def _from_zero(logits: Tensor) -> Tensor:
    return F.softplus(logits)


class APEGAN(nn.Module):
    """x ↦ F(G(x)), where F is the standard model."""

    def __init__(self, generator: Generator, classifier: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.classifier = classifier

    def seen(self, images: Images) -> Images:
        return self.generator(images)

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images whose size the generator does not preserve."""
    recipes.require_multiples(NAME, data, 4)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing, then the generator, and writes ape-gan.safetensors."""
    train_classifier(job, "standard")
    if job.run.has(f"{NAME}.safetensors"):
        return
    assert recipe.epochs is not None
    channels, height, width = job.data.train.images.shape[1:]
    with seeded(job.run.config.seed, NAME, "weights"):
        generator, judge = Generator(channels), discriminator(channels, height, width)
    victim = load_classifier(job, "standard")
    split = training_split(job)
    game = Game(generator, judge, victim, recipe)
    optimisation = Optimisation(recipe.epochs, recipe.learning_rate, betas=(0.5, 0.999), weight_decay=0.0)
    fit_objective(job.run, NAME, game, lambda epoch: (split.images, split.labels), optimisation)
    write_tensors(job.run.file(f"{NAME}.safetensors"), generator.state_dict())


def load(job: Job) -> nn.Module:
    """The generator followed by the standard model, in eval mode."""
    recipes.recall(job.run, NAME, Recipe)
    generator = Generator(job.data.train.images.shape[1])
    load_weights(generator, job.run.file(f"{NAME}.safetensors"))
    return APEGAN(generator, load_classifier(job, "standard")).eval()
