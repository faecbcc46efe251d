"""GRFD as published (Li et al. 2025), x ↦ F(x − G(x)): the target model F classifies the robust part of the image.

GRFD: Robust Feature Disentanglement based on a generative adversarial network. `grfd.method` says where its equations
are.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from grfd.config import Config
from grfd.data.record import Data
from grfd.method.lvcvae import LVCVAE, robust_part
from grfd.method.stages import check_generator, load_generator, stage_one, stage_three, stage_two
from grfd.schema import Settings
from grfd.training.classification import load_classifier
from grfd.training.job import Job
from grfd.types import Features, Images, Logits

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

    def __init__(self, generator: LVCVAE, target: nn.Module, *, sampled: bool = False) -> None:
        super().__init__()
        self.generator = generator
        self.target = target
        self.stochastic = sampled

    def residual(self, images: Images) -> Features:
        """x_r, on which the protocol `residual` attacks the target model."""
        return robust_part(self.generator, images, sampled=self.stochastic)

    def seen(self, images: Images) -> Features:
        return self.residual(images)

    def deterministic(self) -> "GRFD":
        """The same defense with z = μ."""
        return GRFD(self.generator, self.target).train(self.training)

    def forward(self, images: Images) -> Logits:
        return self.target(self.residual(images))


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
    sampled = job.run.config.latent_at_inference == "sampled"
    target = load_classifier(job, "target")
    return GRFD(load_generator(job.run, job.data), target, sampled=sampled).eval()
