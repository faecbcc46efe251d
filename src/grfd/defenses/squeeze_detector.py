"""Feature squeezing (F.S.) as a detector: an image is rejected where squeezing changes the answer too much.

Xu et al. 2018 (arXiv:1704.01155), section 5: the score is the largest L1 distance between the softmax of the image and
that of each squeezed image. The threshold is the one that rejects 5 % of the clean training images. Only the standard
model is trained.
Adaptive attack: the example must be misclassified and accepted (Carlini & Wagner 2017, arXiv:1705.07263). The logit of
rejection is the largest logit + score − threshold, so the margin of an image that is misclassified but rejected is
threshold − score. The attacks use the gradient of the identity through the squeezers (BPDA, Backward Pass
Differentiable Approximation), and Square.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import nn

from grfd import processes
from grfd.config import Config
from grfd.data.record import Data, as_images
from grfd.defenses import recipes
from grfd.defenses.squeezers import Squeezer, Straight, median_2x2, non_local_means, reduce_bits
from grfd.runs import write_json
from grfd.schema import Bits, Count, Settings
from grfd.training.classification import load_classifier, train_classifier, training_split
from grfd.training.job import Job
from grfd.types import Images, Logits, PerExample

NAME = "squeeze-detector"
TITLE = "F.S., detector"
FILES = (f"recipes/{NAME}.json", f"{NAME}.json", "standard.safetensors")
LITERATURE = ""
GREY: dict[str, Any] = {"bits": 1, "smooth": False}
COLOUR: dict[str, Any] = {"bits": 5, "smooth": True}

_IMAGES_AT_ONCE = 500
"""Number of training images that are scored in one pass."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of the detector. Defaults: 1 bit for grey images, 5 bits and non-local means for colour images."""

    bits: Bits | None = None
    """Number of bits per channel that the first squeezer keeps."""
    smooth: bool | None = None
    """Whether non-local means (13-3-2) are used as a squeezer."""
    false_positives: Annotated[float, Interval(ge=0, lt=1)] = 0.05
    """The share of clean training images that the threshold rejects."""
    examples: Count = 10_000
    """Number of training images, counted from the first, on which the threshold is chosen."""


def chosen_squeezers(recipe: Recipe) -> list[Squeezer]:
    """The squeezers of a recipe. Each is applied to the image itself; they are not chained."""
    assert recipe.bits is not None
    bits = recipe.bits
    chosen: list[Squeezer] = [lambda images: reduce_bits(images, bits), median_2x2]
    return [*chosen, non_local_means] if recipe.smooth else chosen


class Detector(nn.Module):
    """Images → logits of the classes, followed by one for rejection, which is the largest where score > threshold."""

    def __init__(self, classifier: nn.Module, squeezers: list[Squeezer], threshold: float, classes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.squeezers = squeezers
        self.threshold = threshold
        self.rejection = classes
        self.straight = False

    def surrogate(self) -> "Detector":
        """The same answers, with the gradient of the identity through the squeezers."""
        other = Detector(self.classifier, self.squeezers, self.threshold, self.rejection).train(self.training)
        other.straight = True
        return other

    def score(self, images: Images) -> PerExample:
        """max over squeezers s of ‖softmax F(x) − softmax F(s(x))‖₁, in [0, 2] (their eq. 5 and 6)."""
        return self._score(images, self.classifier(images))

    def forward(self, images: Images) -> Logits:
        logits = self.classifier(images)
        rejection = logits.amax(1) + self._score(images, logits) - self.threshold
        return torch.cat([logits, rejection[:, None]], 1)

    def _score(self, images: Images, logits: Logits) -> PerExample:
        answer = logits.softmax(1)
        squeezed = [Straight.apply(images, each) if self.straight else each(images) for each in self.squeezers]
        return torch.stack([(answer - self.classifier(each).softmax(1)).abs().sum(1) for each in squeezed]).amax(0)


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images that are smaller than the window of non-local means."""
    recipes.require_multiples(NAME, data, 1, least=7 if recipe.smooth else 1)


@torch.no_grad()
def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing, chooses the threshold, and writes squeeze-detector.json."""
    with torch.enable_grad():
        train_classifier(job, "standard")
    if processes.of_main(lambda: job.run.has(f"{NAME}.json")):
        return
    detector = Detector(load_classifier(job, "standard").eval(), chosen_squeezers(recipe), 0.0, len(job.data.classes))
    images = training_split(job).images[: recipe.examples]
    scores = torch.cat([detector.score(as_images(part)) for part in images.split(_IMAGES_AT_ONCE)])
    threshold = scores.quantile(1 - recipe.false_positives).item()
    write_json(job.run.file(f"{NAME}.json"), {"threshold": threshold, "examples": len(images)})
    processes.wait()


def load(job: Job) -> nn.Module:
    """The standard model with the detector, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    threshold = json.loads(job.run.file(f"{NAME}.json").read_text())["threshold"]
    classifier = load_classifier(job, "standard")
    return Detector(classifier, chosen_squeezers(recipe), threshold, len(job.data.classes)).eval()
