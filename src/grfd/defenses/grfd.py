"""GRFD (Li et al. 2025), x ↦ F(x_r): the target model F classifies the robust part of the image.

As published, x_r is x − G(x). With `robust_part = "reconstruction"` in the run's configuration, it is G(x).

GRFD: Robust Feature Disentanglement based on a generative adversarial network. `grfd.method` says where its equations
are.
"""

import copy
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from grfd.config import Config
from grfd.data.record import Data
from grfd.method.lvcvae import LVCVAE, RobustPart, divided, reconstruction, sample
from grfd.method.stages import check_generator, load_generator, stage_one, stage_three, stage_two
from grfd.schema import Settings
from grfd.training.classification import load_classifier
from grfd.training.job import Job
from grfd.types import Features, Images, Latents, Logits

NAME = "grfd"
TITLE = "GRFD"
FILES = ("lvcvae.safetensors", "target.safetensors")
LITERATURE = ""
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}


@dataclass(frozen=True)
class Recipe(Settings):
    """GRFD has no settings here: they are those of the run's configuration."""


class GRFD(nn.Module):
    """The whole defense: images → logits of the target model on x_r.

    It is deterministic with z = μ, the default, and stochastic with z ~ N(μ, σ²). Adaptive attack: end to end through
    G, in expectation over z where z is random. Every part has a useful gradient, so there is no surrogate.
    """

    def __init__(
        self, generator: LVCVAE, target: nn.Module, *, sampled: bool = False, kind: RobustPart = "residual"
    ) -> None:
        super().__init__()
        self.generator = generator
        self.target = target
        self.stochastic = sampled
        self.kind = kind

    def divide(self, images: Images, reconstructed: Features) -> tuple[Features, Features]:
        """(x_u, x_r) of images and of what G makes of them."""
        return divided(images, reconstructed, self.kind)

    def parts(self, images: Images) -> tuple[Features, Features]:
        """(x_u, x_r), the redundant and the robust part."""
        return self.divide(images, reconstruction(self.generator, images, sampled=self.stochastic))

    def residual(self, images: Images) -> Features:
        """x_r, on which the protocol `residual` attacks the target model."""
        return self.parts(images)[1]

    def seen(self, images: Images) -> Features:
        return self.residual(images)

    def deterministic(self) -> Self:
        """The same defense, of the same weights, with z = μ."""
        twin = copy.copy(self)
        twin.stochastic = False
        return twin

    def forward(self, images: Images) -> Logits:
        return self.target(self.residual(images))


@dataclass
class DefensePass:
    """The results of one pass of the defense: the objective needs more than the logits."""

    logits: Logits
    reconstructed: Features
    robust: Features
    mean: Latents
    log_variance: Latents
    latents: Latents

    def halves(self) -> "tuple[DefensePass, DefensePass]":
        """The results for the first and for the second half of the batch."""
        first, second = zip(*(value.chunk(2) for value in vars(self).values()), strict=True)
        return DefensePass(*first), DefensePass(*second)


def through(defense: GRFD, images: Images) -> DefensePass:
    """One pass of F(x_r)."""
    mean, log_variance = defense.generator.encode(images)
    latents = sample(mean, log_variance) if defense.stochastic else mean
    reconstructed = defense.generator.decode(latents)
    _, robust = defense.divide(images, reconstructed)
    return DefensePass(defense.target(robust), reconstructed, robust, mean, log_variance, latents)


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images that the LVCVAE does not take, and where it needs more memory than there is."""
    check_generator(config, data)


def fit(job: Job, recipe: Recipe | None = None) -> None:
    """Runs stages I to III of algorithm 1."""
    stage_one(job)
    stage_two(job)
    stage_three(job)


def load(job: Job) -> GRFD:
    """The trained defense, in eval mode."""
    config = job.run.config
    sampled, kind = config.latent_at_inference == "sampled", config.robust_part
    return GRFD(load_generator(job.run, job.data), load_classifier(job, "target"), sampled=sampled, kind=kind).eval()
