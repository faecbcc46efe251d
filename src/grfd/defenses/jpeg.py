"""JPEG compression (Guo et al. 2018, arXiv:1711.00117) before the standard model, without retraining.

Images are encoded and decoded by Pillow at quality 75, as in the authors' code (facebookarchive/
adversarial_image_defenses), with its usual subsampling of colours. That code pads MNIST to 32×32 first. Pillow pads to
whole blocks by itself, so images keep their size here.
Adaptive attack: rounding and Huffman coding have no gradient. The surrogate is the differentiable JPEG of kornia, which
rounds by a cubic polynomial (Shin & Song 2017; Reich et al. 2024). A stand-in has Pillow's answers and the gradient of
the identity (BPDA, Athalye et al. 2018, arXiv:1802.00420). For each example, the stronger counts.
"""

import importlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from grfd.defenses import recipes
from grfd.defenses.squeezers import Squeezed
from grfd.errors import UserError
from grfd.schema import Quality, Settings
from grfd.training.classification import load_classifier, train_classifier
from grfd.training.job import Job
from grfd.types import Images, Logits

NAME = "jpeg"
TITLE = "JPEG"
FILES = (f"recipes/{NAME}.json", "standard.safetensors")
LITERATURE = "ImageNet, L2 of 0.05: 0 % are left by BPDA (anishathalye/obfuscated-gradients)."
GREY: dict[str, Any] = {}
COLOUR: dict[str, Any] = {}

_MACROBLOCK = 16
"""With subsampled colours, JPEG works on squares of this side."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of JPEG compression."""

    quality: Quality = 75
    """Quality of the JPEG encoder, from 1 to 100."""


def compressed(images: Images, quality: int) -> Images:
    """Images in [0, 1], rounded to 8 bits, encoded and decoded by Pillow. There is no gradient."""
    pixels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, 3).cpu().numpy()
    decoded = np.stack([_through_a_file(each, quality) for each in pixels]) if len(pixels) else pixels
    return torch.from_numpy(decoded).movedim(3, 1).to(images) / 255


def _through_a_file(pixels: np.ndarray, quality: int) -> np.ndarray:
    """uint8 [height, width, channel] → the same after JPEG. One channel is grey, three are RGB, others are alone."""
    if pixels.shape[2] not in (1, 3):
        return np.concatenate([_through_a_file(pixels[..., [each]], quality) for each in range(pixels.shape[2])], 2)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(pixels.shape)


class DifferentiableJPEG(nn.Module):
    """A classifier after kornia's differentiable JPEG. Grey images are encoded as RGB, and padded to whole squares."""

    def __init__(self, classifier: nn.Module, quality: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.quality = quality
        self.codec = codec()

    def seen(self, images: Images) -> Images:
        height, width = images.shape[2:]
        padding = (0, -width % _MACROBLOCK, 0, -height % _MACROBLOCK)
        colours = images if images.shape[1] == 3 else images.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        padded = F.pad(colours, padding, mode="replicate")
        decoded = self.codec(padded, torch.full((1,), float(self.quality), device=images.device, dtype=images.dtype))
        decoded = decoded[..., :height, :width]
        return decoded if images.shape[1] == 3 else decoded.mean(1).view(images.shape)

    def forward(self, images: Images) -> Logits:
        logits: Logits = self.classifier(self.seen(images))
        return logits


def codec() -> nn.Module:
    """kornia's differentiable JPEG. Raises `UserError` where kornia is not installed."""
    try:
        made: nn.Module = importlib.import_module("kornia.enhance").JPEGCodecDifferentiable()
    except ImportError as error:
        raise UserError(f"attacks on JPEG need kornia: pip install 'grfd[jpeg]' ({error})") from error
    return made


class JPEG(nn.Module):
    """x ↦ F(JPEG(x)), where F is the standard model."""

    def __init__(self, classifier: nn.Module, quality: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.quality = quality

    def surrogate(self) -> nn.Module:
        return DifferentiableJPEG(self.classifier, self.quality)

    def stand_ins(self) -> dict[str, nn.Module]:
        straight = Squeezed(self.classifier, lambda images: compressed(images, self.quality), straight=True)
        return {"the identity (BPDA)": straight}

    def seen(self, images: Images) -> Images:
        return compressed(images, self.quality)

    def forward(self, images: Images) -> Logits:
        logits: Logits = self.classifier(self.seen(images))
        return logits


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing. There is nothing else to train."""
    train_classifier(job, "standard")


def load(job: Job) -> nn.Module:
    """The compression followed by the standard model, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    return JPEG(load_classifier(job, "standard"), recipe.quality).eval()
