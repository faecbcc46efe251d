"""Cropping and rescaling (Guo et al. 2018, arXiv:1711.00117, section 3): mean answer over random crops of an image.

A square of the image is cut out at a random place and enlarged to the image's size. The classifier is trained on such
crops, and the answer is the mean softmax over 30 of them, as in the paper. The authors cut 90 of 224 pixels, from
photographs whose object is larger than that. Scaled to small images by us: 24 of 28 pixels, and 28 of 32.
Adaptive attack: in expectation over crops (EOT, expectation over transformation); Athalye et al. 2018
(arXiv:1802.00420, section 5.3) broke it so.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import nn

from grfd.data.record import as_images
from grfd.defenses import recipes
from grfd.schema import Count, Settings
from grfd.seeds import drawn
from grfd.training.classification import Classification, classifier_optimisation, load_classifier, train_under
from grfd.training.job import Job
from grfd.types import Images, Logits

NAME = "crop-rescale"
TITLE = "crop and rescale"
NARROW_TITLE = "crop and\nrescale"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "on ImageNet 0 % within a root mean square of 0.05, attacked by EOT (arXiv:1802.00420)."
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of cropping and rescaling."""

    side: Annotated[float, Interval(gt=0, le=1)] = 0.875
    """Length of the sides of a crop, as a share of the image's shorter side. The authors' photographs have 0.4."""
    votes: Count = 30
    """Crops whose softmax is averaged in an answer."""


def random_crops(images: Images, side: int) -> Images:
    """A random square of each image, enlarged to the image's size by bilinear interpolation. Differentiable."""
    count, _, height, width = images.shape
    shares = drawn(lambda n, stream: torch.rand((n, 2), generator=stream, device=images.device), count)
    places = torch.tensor([height - side + 1, width - side + 1], device=images.device)
    top, left = (shares * places).long().unbind(1)
    # affine_grid counts from the centre, in half sides of the image
    grid = images.new_zeros(count, 2, 3)
    grid[:, 0, 0], grid[:, 1, 1] = side / width, side / height
    grid[:, 0, 2] = (2 * left + side) / width - 1
    grid[:, 1, 2] = (2 * top + side) / height - 1
    places_of_pixels = F.affine_grid(grid, list(images.shape), align_corners=False)
    return F.grid_sample(images, places_of_pixels, padding_mode="border", align_corners=False)


class Cropped(nn.Module):
    """One vote: the classifier's answer for a random crop of each image. The judge averages `votes` softmaxes."""

    stochastic = True
    averages_probabilities = True

    def __init__(self, classifier: nn.Module, side: float, votes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.side = side
        self.votes = votes

    def deterministic(self) -> nn.Module:
        """The classifier on the whole image, for the protocol `whitebox`."""
        return self.classifier

    def seen(self, images: Images) -> Images:
        return random_crops(as_images(images), max(1, round(self.side * min(images.shape[2:]))))

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))


def _cropped(classifier: nn.Module, recipe: Recipe) -> Cropped:
    return Cropped(classifier, recipe.side, recipe.votes)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the target's architecture on random crops, and writes crop-rescale.safetensors."""
    optimisation = classifier_optimisation(job.run.config)
    train_under(job, NAME, lambda model: Classification(_cropped(model, recipe)), optimisation)


def load(job: Job) -> nn.Module:
    """The random crops followed by their classifier, in eval mode."""
    return _cropped(load_classifier(job, NAME), recipes.recall(job.run, NAME, Recipe)).eval()
