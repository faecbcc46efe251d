"""HGD, the high-level representation guided denoiser (Liao et al. 2018, arXiv:1712.02976), before the standard model.

A U-Net returns what is added to the image. It is trained so that the logits of the frozen standard model at the
denoised adversarial image are those at the clean image: the L1 distance of the logits, the "LGD" of the paper.

From the authors' code (lfz/Guided-Denoise) are the maps of the five levels (64, 128, 256, 256, 256), the loss and
Adam. What differs: each batch is attacked while it is trained on, half of it by one step and half by three steps, each
example with its own ε between 0 and the recipe's, because the authors' stored images of several attacks exist for
ImageNet only. For small images the maps are divided (by 4 for MNIST, scaled by us), and the epochs are fewer. Sides
that are not multiples of 16 are padded by their edge. Adaptive attack: end to end, since denoiser and classifier are
differentiable. Athalye & Carlini 2018 (arXiv:1804.03286) broke the defense in this way.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.attacks.losses import log_odds
from grfd.defenses import recipes
from grfd.runs import load_weights, write_tensors
from grfd.schema import Count, Pixels, Rate, Settings, Size
from grfd.seeds import seeded
from grfd.training.classification import in_eval_mode, load_classifier, train_classifier, training_split
from grfd.training.job import Job
from grfd.training.loop import Optimisation, Terms, fit_objective
from grfd.types import Features, Images, Labels, Logits

NAME = "guided-denoiser"
TITLE = "HGD"
FILES = (f"{NAME}.safetensors", "standard.safetensors")
LITERATURE = "ImageNet, 4/255: targeted attacks succeed on every image (anishathalye/Guided-Denoise)."
GREY: dict[str, Any] = {"eps": 0.15, "width": 16, "epochs": 4}
COLOUR: dict[str, Any] = {"eps": 8 / 255, "width": 16, "epochs": 10}

_LEVELS = (1, 2, 4, 4, 4)
"""Maps of each level, as multiples of the width. Between two levels the sides are halved."""
_STRIDE = 2 ** (len(_LEVELS) - 1)


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of HGD. Defaults: eps 0.15 and 4 epochs for grey images, 8/255 and 10 for colour images; width 16."""

    eps: Pixels | None = None
    """Largest ε of the attacks on the standard model, in pixels of [0, 1]."""
    width: Size | None = None
    """Maps of the first level. The authors have 64."""
    epochs: Count | None = None
    """Epochs of the denoiser."""
    learning_rate: Rate = 1e-3
    """Learning rate of Adam, which decays to 0 along a cosine."""


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch norm and a rectifier."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class DenoisingUNet(nn.Module):
    """Images → images of the same size. Starts as the identity, because its last layer starts at 0."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        maps = [width * factor for factor in _LEVELS]
        self.down = nn.ModuleList(_block(before, after) for before, after in zip([channels, *maps], maps, strict=False))
        self.up = nn.ModuleList(
            _block(deep + level, level) for deep, level in zip(reversed(maps[1:]), reversed(maps[:-1]), strict=True)
        )
        self.last = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Images) -> Images:
        height, width = images.shape[2:]
        features: Tensor = F.pad(images, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        levels: list[Features] = []
        for index, block in enumerate(self.down):
            features = block(F.avg_pool2d(features, 2) if index else features)
            levels.append(features)
        levels.pop()
        for block in self.up:
            larger = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([larger, levels.pop()], 1))
        return images + self.last(features)[..., :height, :width]


class Guided(nn.Module):
    """L1 between the frozen classifier's logits at the clean image and at the denoised adversarial image (LGD)."""

    def __init__(self, denoiser: nn.Module, classifier: nn.Module, eps: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifier = classifier.requires_grad_(False)
        self.eps = eps

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        with in_eval_mode(self.classifier):
            adversarial = several_attacks(self.classifier, images, labels, self.eps)
            with torch.no_grad():
                wanted = self.classifier(images)
            difference = (self.classifier(self.denoiser(adversarial)) - wanted).abs().mean(1)
            before = (self.classifier(adversarial) - wanted).abs().mean(1).detach()
        return {"loss": difference, "without denoiser": before}


def several_attacks(model: nn.Module, images: Images, labels: Labels, largest: float) -> Images:
    """Signed ascent on the log-odds: one step for every second example, three for the others; ε uniform in [0,
    largest].

    ε in pixels of [0, 1], one for each example.
    """
    eps = largest * torch.rand(len(images), 1, 1, 1, device=images.device)
    lower, upper = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    single = (torch.arange(len(images), device=images.device) % 2 == 0)[:, None, None, None]
    point = images.detach()
    for step in range(3):
        point = point.requires_grad_()
        (gradient,) = torch.autograd.grad(log_odds(model(point), labels).sum(), point)
        size = eps.where(single, eps / 2) if step == 0 else (eps / 2).masked_fill(single, 0.0)
        point = (point.detach() + size * gradient.sign()).clamp(lower, upper)
    return point


class Denoised(nn.Module):
    """x ↦ F(x + U(x)), where F is the standard model."""

    def __init__(self, denoiser: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifier = classifier

    def seen(self, images: Images) -> Images:
        return self.denoiser(images)

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing, then the denoiser, and writes guided-denoiser.safetensors."""
    train_classifier(job, "standard")
    if job.run.has(f"{NAME}.safetensors"):
        return
    assert recipe.eps is not None and recipe.epochs is not None and recipe.width is not None
    with seeded(job.run.config.seed, NAME, "weights"):
        denoiser = DenoisingUNet(job.data.train.images.shape[1], recipe.width)
    objective = Guided(denoiser, load_classifier(job, "standard"), recipe.eps)
    optimisation = Optimisation(recipe.epochs, recipe.learning_rate, weight_decay=0.0)
    split = training_split(job)
    fit_objective(job.run, NAME, objective, lambda epoch: (split.images, split.labels), optimisation)
    write_tensors(job.run.file(f"{NAME}.safetensors"), denoiser.state_dict())


def load(job: Job) -> nn.Module:
    """The denoiser followed by the standard model, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    assert recipe.width is not None
    denoiser = DenoisingUNet(job.data.train.images.shape[1], recipe.width)
    load_weights(denoiser, job.run.file(f"{NAME}.safetensors"))
    return Denoised(denoiser, load_classifier(job, "standard")).eval()
