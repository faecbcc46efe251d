"""Total variation minimisation (TVM; Guo et al. 2018, arXiv:1711.00117, section 3): images redrawn from half of them.

A random half of the pixels is dropped, and the image z with little total variation that agrees with the others is
classified: min ½‖X ⊙ (z − x)‖² + λ·TV(z), X random in {0, 1}, λ = 0.03 and half of the pixels as in the authors'
repository (facebookarchive/adversarial_image_defenses). TV is isotropic as there. They solve it by split Bregman, we by
the primal-dual method of Chambolle & Pock (2011, J Math Imaging Vis 40:120), which runs on whole batches. As in the
paper, the classifier is trained on such images.
Adaptive attack: in expectation over X (EOT, expectation over transformation), with the gradient of the identity (BPDA,
Backward Pass Differentiable Approximation; Athalye et al. 2018, arXiv:1802.00420, section 5.3). The protocol `adaptive`
also tries the gradient through the solver.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.data.record import as_images
from grfd.defenses import recipes
from grfd.defenses.squeezers import Straight
from grfd.schema import Count, Settings, Share, Steps, Weight
from grfd.seeds import drawn
from grfd.training.classification import Classification, classifier_optimisation, load_classifier, train_under
from grfd.training.job import Job
from grfd.types import Images, Logits

NAME = "total-variation"
TITLE = "TVM"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "on ImageNet 0 % within a root mean square of 0.05, attacked by BPDA and EOT (arXiv:1802.00420)."
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}

_DESCENT = 2.0
"""Step size of the images. That of the dual field follows: their product times the squared norm of ∇, 8, is at most 1.
With 2, fifty iterations came within 1 % of the minimum on MNIST; with equal step sizes, within 5 %."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of total variation minimisation, by default those of the authors."""

    dropped: Share = 0.5
    """The share of pixels that are dropped at random, in all channels at once."""
    weight: Weight = 0.03
    """λ: weight of the total variation."""
    iterations: Steps = 50
    """Iterations of the primal-dual method."""
    votes: Count = 10
    """Answers in the majority vote, each with its own random pixels."""


def differences(images: Images) -> tuple[Tensor, Tensor]:
    """Forward differences of each pixel, down and to the right, 0 at the border, each of the shape of the images."""
    down = F.pad(images[..., 1:, :] - images[..., :-1, :], (0, 0, 0, 1))
    right = F.pad(images[..., :, 1:] - images[..., :, :-1], (0, 1))
    return down, right


def field_divergence(down: Tensor, right: Tensor) -> Images:
    """Minus the adjoint of `differences`, for fields that are 0 where those are."""
    return down - F.pad(down[..., :-1, :], (0, 0, 1, 0)) + right - F.pad(right[..., :, :-1], (1, 0))


def minimise_total_variation(images: Images, kept: Tensor, weight: float, iterations: int) -> Images:
    """argmin over z of ½‖kept ⊙ (z − x)‖² + weight · Σ ‖∇z‖₂, approximately. `kept`: 0 or 1, [batch, 1, height, width].

    Chambolle & Pock, algorithm 1 with θ = 1. Differentiable, at the price of a graph through all iterations.
    """
    bound, ascent = max(weight, 1e-12), 1 / (8 * _DESCENT)
    result = kept * images
    target, damping = _DESCENT * result, 1 / (1 + _DESCENT * kept)
    ahead, (down, right) = result, (torch.zeros_like(result), torch.zeros_like(result))
    for _ in range(iterations):
        steps = differences(ahead)
        down, right = down + ascent * steps[0], right + ascent * steps[1]
        factor = bound / (down.square() + right.square()).clamp(min=bound**2).sqrt()
        down, right = factor * down, factor * right
        moved = damping * (result + _DESCENT * field_divergence(down, right) + target)
        ahead, result = 2 * moved - result, moved
    return result.clamp(0, 1)


class Redrawn(nn.Module):
    """One vote: the classifier's answer for an image redrawn from a random part of its pixels."""

    stochastic = True

    def __init__(self, classifier: nn.Module, recipe: Recipe, *, straight: bool = False) -> None:
        super().__init__()
        self.classifier = classifier
        self.recipe = recipe
        self.votes = recipe.votes
        self.straight = straight

    def surrogate(self) -> "Redrawn":
        """The same answers, with the gradient of the identity."""
        return Redrawn(self.classifier, self.recipe, straight=True).train(self.training)

    def stand_ins(self) -> dict[str, nn.Module]:
        """The same answers, with the gradient through the solver."""
        return {"unrolled": Redrawn(self.classifier, self.recipe).train(self.training)}

    def seen(self, images: Images) -> Images:
        images, recipe = as_images(images), self.recipe
        shape, device = (1, *images.shape[2:]), images.device
        chances = drawn(lambda n, stream: torch.rand((n, *shape), generator=stream, device=device), len(images))
        kept = (chances >= recipe.dropped).to(images)

        def redraw(pixels: Images) -> Images:
            return minimise_total_variation(pixels, kept, recipe.weight, recipe.iterations)

        return Straight.apply(images, redraw) if self.straight else redraw(images)

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture on redrawn images, and writes total-variation.safetensors."""
    optimisation = classifier_optimisation(job.run.config)
    train_under(job, NAME, lambda model: Classification(Redrawn(model, recipe)), optimisation)


def load(job: Job) -> nn.Module:
    """The minimisation followed by its classifier, in eval mode."""
    return Redrawn(load_classifier(job, NAME), recipes.recall(job.run, NAME, Recipe)).eval()
