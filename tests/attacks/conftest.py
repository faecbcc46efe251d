"""Small models and batches for the attacks' tests."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ATTACKS, OTHER_ATTACKS

torch.set_num_threads(1)


def _small_net(classes: int = 10, channels: int = 1, size: int = 8, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * size * size, classes)
        )
    return net.to(dtype).eval()


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """An attack without a generator draws the same in every run of its test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def small_net() -> Callable[..., nn.Module]:
    """Builds a seeded conv net in eval mode."""
    return _small_net


@pytest.fixture
def victim() -> tuple[nn.Module, Tensor, Tensor]:
    """(net, images, labels): ten classes, 24 grey 8×8 images, all classified right."""
    net = _small_net()
    images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return net, images, net(images).argmax(1)


def _attack(name: str, model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, **keywords: Any) -> Tensor:
    attack = {**ATTACKS, **OTHER_ATTACKS}[name]
    keywords = {"eps": 0.05, "generator": torch.Generator().manual_seed(0)} | keywords
    small = {"steps": 4, "n_queries": 40, "step_size": keywords["eps"] / 2}
    taken = inspect.signature(attack).parameters
    return attack(model, images, labels, **{key: small[key] for key in small if key in taken} | keywords)


@pytest.fixture(scope="session")
def attack() -> Callable[..., Tensor]:
    """Runs the attack of that name with a small budget, from a seeded generator unless another is given."""
    return _attack
