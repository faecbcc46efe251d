"""Small models and batches for the attacks' tests."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS


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


SMALL = {"steps": 4, "n_queries": 40, "search_steps": 2, "links": 2, "targets": 3}
"""A budget that takes no time."""

STRONG = {
    "cw": {"eps": 1.5, "steps": 100, "search_steps": 5, "learning_rate": 0.05},
    "ddn": {"eps": 0.6, "steps": 40},
    "fmn": {"steps": 20},
    "pixle": {"eps": 1.0},
    "advgan": {"steps": 200, "learning_rate": 0.003},
    "se_advgan": {"steps": 200, "learning_rate": 0.003},
    "hmcam": {"steps": 20, "step_size": 1.0},
    "hopskipjump": {"eps": 1.5, "n_queries": 1000},
    "rfgsm": {"steps": 4},
    "simba": {"eps": 1.5, "n_queries": 300},
    "square": {"n_queries": 300},
}
"""What it takes to fool most of the victim's images where `SMALL` at ε = 0.1 does not."""


def _attack(name: str, model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, **keywords: Any) -> Tensor:
    attack = ALL_ATTACKS[name].function
    keywords = {"eps": 0.05, "generator": torch.Generator().manual_seed(0)} | keywords
    small = SMALL | {"step_size": keywords["eps"] / 2}
    taken = inspect.signature(attack).parameters
    return attack(model, images, labels, **{key: small[key] for key in small if key in taken} | keywords)


@pytest.fixture
def strong() -> dict[str, dict[str, Any]]:
    """`STRONG`."""
    return STRONG


@pytest.fixture(scope="session")
def attack() -> Callable[..., Tensor]:
    """Runs the attack of that name with a small budget, from a seeded generator unless another is given."""
    return _attack
