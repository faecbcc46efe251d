"""JPEG compression (Guo et al. 2018, arXiv:1711.00117): each image is compressed and decoded before the standard model.

Quality 75, by Pillow, as in the authors' repository (facebookarchive/adversarial_image_defenses). Only the standard
model is trained. The authors cut pixels to 8 bits; here they are rounded, so that images of 8 bits are not changed
before the compression. Scaled to MNIST by us: sides are padded to multiples of 8 by repeating the border, 28 → 32.
Adaptive attack: the surrogate has the answers of Pillow's JPEG and the gradient of a differentiable JPEG (kornia).
The protocol `adaptive` also tries the gradient of the identity (BPDA, Backward Pass Differentiable Approximation;
Athalye et al. 2018, arXiv:1802.00420).

Needs `kornia`: pip install "grfd[jpeg]".
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Interval
from PIL import Image
from torch import nn

from grfd.config import Config
from grfd.data.record import Data
from grfd.defenses import recipes
from grfd.defenses.squeezers import Squeezed, Squeezer, Straight
from grfd.errors import UserError
from grfd.schema import Settings
from grfd.training.classification import load_classifier, train_classifier
from grfd.training.job import Job
from grfd.types import Images, Logits

NAME = "jpeg"
TITLE = "JPEG"
FILES = (f"recipes/{NAME}.json", "standard.safetensors")
LITERATURE = "on ImageNet 0 % within an L2 distance of 0.05 (anishathalye/obfuscated-gradients)."
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}

_Quality = Annotated[int, Interval(ge=1, le=95)]


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of JPEG compression, by default those of the authors."""

    quality: _Quality = 75
    """Quality of the compression, as Pillow counts it."""


def padded_to_blocks(images: Images) -> tuple[Images, tuple[slice, slice]]:
    """The images with sides that are multiples of 8, and where the original lies in them."""
    height, width = images.shape[2:]
    top, left = (-height % 8) // 2, (-width % 8) // 2
    bottom, right = -height % 8 - top, -width % 8 - left
    padded = F.pad(images, (left, right, top, bottom), mode="replicate")
    return padded, (slice(top, top + height), slice(left, left + width))


@torch.no_grad()
def compress_jpeg(images: Images, quality: int) -> Images:
    """Images in [0, 1], grey or RGB, after compression to JPEG and back by Pillow."""
    padded, (rows, columns) = padded_to_blocks(images)
    pixels = (padded.detach() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_pillow(each, quality) for each in pixels])
    restored = torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images) / 255
    return restored[..., rows, columns].contiguous()


def _through_pillow(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image).reshape(pixels.shape)


def differentiable_codec() -> Callable[..., Any]:
    """kornia's differentiable JPEG. Raises `UserError` where kornia is not installed."""
    try:
        from kornia.enhance import jpeg_codec_differentiable
    except ImportError as error:
        raise UserError('jpeg needs kornia: pip install "grfd[jpeg]"') from error
    codec: Callable[..., Any] = jpeg_codec_differentiable
    return codec


def differentiable_jpeg(images: Images, quality: int) -> Images:
    """An approximation of `compress_jpeg` that has a useful gradient. A grey image becomes three equal channels."""
    padded, (rows, columns) = padded_to_blocks(images)
    channels = images.shape[1]
    coloured = padded.expand(-1, 3, -1, -1) if channels == 1 else padded
    result = differentiable_codec()(coloured, torch.tensor([float(quality)], device=images.device))
    return (result.mean(1, keepdim=True) if channels == 1 else result)[..., rows, columns]


class Compressed(nn.Module):
    """JPEG followed by a classifier. `approximation`: the function whose gradient is used, for the surrogate."""

    def __init__(self, classifier: nn.Module, quality: int, approximation: Squeezer | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.quality = quality
        self.approximation = approximation

    def surrogate(self) -> "Compressed":
        """The same answers, with the gradient of the differentiable JPEG."""
        differentiable_codec()
        surrogate = Compressed(self.classifier, self.quality, lambda x: differentiable_jpeg(x, self.quality))
        return surrogate.train(self.training)

    def stand_ins(self) -> dict[str, nn.Module]:
        """The same answers, with the gradient of the identity."""
        return {"bpda": Squeezed(self.classifier, lambda x: compress_jpeg(x, self.quality), straight=True)}

    def seen(self, images: Images) -> Images:
        if self.approximation is None:
            return compress_jpeg(images, self.quality)
        return Straight.apply(self.approximation(images), lambda _: compress_jpeg(images, self.quality))

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` where kornia is missing, and for images that are neither grey nor RGB."""
    differentiable_codec()
    channels = data.train.images.shape[1]
    if channels not in (1, 3):
        raise UserError(f"{NAME} takes images of 1 or 3 channels, got {channels}")


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing. There is nothing else to train."""
    train_classifier(job, "standard")


def load(job: Job) -> nn.Module:
    """The compression followed by the standard model, in eval mode."""
    differentiable_codec()
    recipe = recipes.recall(job.run, NAME, Recipe)
    return Compressed(load_classifier(job, "standard"), recipe.quality).eval()
