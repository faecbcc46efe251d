"""The models on which attacks are compared. They are trained once, on MNIST, and then kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from grfd import data as datasets
from grfd.attacks import pgd
from grfd.data.record import Split, as_images
from grfd.errors import UserError
from grfd.models import LeNet5
from grfd.models.resnet import SmallResNet
from grfd.progress import progress
from grfd.runs import load_weights, write_tensors
from grfd.seeds import seeded
from grfd.types import Images, Labels

_TRAINING_IMAGES = 60_000


@dataclass(frozen=True)
class Victim:
    """A model that is attacked, its test images, and budgets under which some of them remain right."""

    network: nn.Module
    test: Split
    eps: float
    eps_l2: float
    eps_l1: float


def coloured(images: Images) -> Images:
    """MNIST in CIFAR's shape: padded to 32×32, in three channels of different brightness."""
    padded = F.pad(images, (2, 2, 2, 2))
    return torch.cat([padded, 0.7 * padded, 0.4 * padded], 1)


def fitted(network: nn.Module, images: Images, labels: Labels, *, epochs: int, eps: float = 0.0) -> nn.Module:
    """Trained by Adam on the images, or on their PGD examples if ε is given (Madry et al. 2018, arXiv 1706.06083)."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    batches = [batch for _ in range(epochs) for batch in torch.randperm(len(images)).split(128)]
    with progress("victims", len(batches)) as advance:
        for batch in batches:
            inputs = images[batch]
            if eps:
                network.eval()
                inputs = pgd(network, inputs, labels[batch], eps=eps, step_size=eps / 2, steps=3, active_set=False)
                network.train()
            optimizer.zero_grad()
            loss = F.cross_entropy(network(inputs), labels[batch])
            loss.backward()
            optimizer.step()
            advance(1, "")
    return network.eval()


def _standard(images: Images, labels: Labels) -> nn.Module:
    return fitted(LeNet5(), images, labels, epochs=3)


def _robust(images: Images, labels: Labels) -> nn.Module:
    return fitted(LeNet5(), images, labels, epochs=2, eps=0.11)


def _residual(images: Images, labels: Labels) -> nn.Module:
    return fitted(SmallResNet(), coloured(images), labels, epochs=1)


class _Recipe(NamedTuple):
    """How a victim is trained, its architecture, how MNIST's images are shaped for it, and ε in L∞, in L2 and in L1."""

    train: Callable[[Images, Labels], nn.Module]
    architecture: Callable[[], nn.Module]
    shape: Callable[[Images], Images]
    eps: float
    eps_l2: float
    eps_l1: float


VICTIM_RECIPES: dict[str, _Recipe] = {
    "lenet5": _Recipe(_standard, LeNet5, lambda images: images, 18 / 255, 1.0, 5.0),
    "lenet5 adversarially trained": _Recipe(_robust, LeNet5, lambda images: images, 18 / 255, 1.0, 7.0),
    "residual net": _Recipe(_residual, SmallResNet, coloured, 6 / 255, 0.5, 5.0),
}


def load_victims(folder: Path, names: tuple[str, ...], examples: int, seed: int = 0) -> dict[str, Victim]:
    """The victims, which are trained once and then read from the folder. Raises `UserError` for an unknown name."""
    data = datasets.load("mnist")
    test = data.test.take(examples)
    victims = {}
    for name in names:
        if name not in VICTIM_RECIPES:
            raise UserError(f"unknown model {name!r}: expected one of {', '.join(VICTIM_RECIPES)}")
        recipe = VICTIM_RECIPES[name]
        file = folder / f"{name.replace(' ', '-')}.safetensors"
        if not file.exists():
            images, labels = data.train.images[:_TRAINING_IMAGES], data.train.labels[:_TRAINING_IMAGES]
            with seeded(seed, "victim", name):
                network = recipe.train(as_images(images), labels)
            write_tensors(file, network.state_dict())
        network = recipe.architecture().eval()
        load_weights(network, file)
        split = Split(recipe.shape(as_images(test.images)), test.labels)
        victims[name] = Victim(network, split, recipe.eps, recipe.eps_l2, recipe.eps_l1)
    return victims
