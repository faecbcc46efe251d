"""A network of one's own is tried before training: each fault is one line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grfd.errors import UserError
from grfd.models.trial import Trial, check_answer, check_trainable, smallest_batch

IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4) % 3


class Net(nn.Module):
    """A linear classifier that does something else, where it is asked to, to its logits."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Any] = lambda model, logits: logits) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(self, self.linear(images.flatten(1)))


def check(make: Callable[[], nn.Module]) -> None:
    model = make()
    check_answer(model, IMAGES, "model", 3)
    check_trainable(model, make(), Trial(IMAGES, LABELS, 3, "model"))


def _in_training(change: Callable[[Tensor], Any]) -> Callable[[], nn.Module]:
    return lambda: Net(lambda model, logits: change(logits) if model.training else logits)


def _raise(logits: Tensor) -> Tensor:
    raise RuntimeError("of my own")


class Forgetful(Net):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


class Extra(Net):
    def get_extra_state(self) -> dict:
        return {"a": 1}

    def set_extra_state(self, state: dict) -> None:
        pass


def _frozen() -> nn.Module:
    return Net().requires_grad_(False)


def _lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def _infinite() -> nn.Module:
    return Net(lambda model, logits: logits / 0)


ONE = Net()
CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "one network": (lambda: ONE, "makes the same weights each time"),
    "shared weights": (lambda: nn.Sequential(ONE), "makes the same weights each time"),
    "no parameters": (lambda: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(3)), "has no parameters to train"),
    "frozen": (_frozen, "has no parameters to train"),
    "lazy": (_lazy, "1.weight has no size yet"),
    "infinite": (_infinite, "not finite before any training"),
    "train returns nothing": (Forgetful, r"its train\(\) returns NoneType"),
    "state of its own": (Extra, "has _extra_state in its state, which is not a plain tensor"),
    "raises in training": (_in_training(_raise), "in a training step of 4 images, raised RuntimeError: of my own"),
    "tuple in training": (_in_training(lambda logits: (logits,)), r"answers with tuple: expected logits of \(4, 3\)"),
    "integers in training": (_in_training(lambda logits: logits.long()), "torch.int64 numbers"),
    "no gradient": (_in_training(lambda logits: logits.detach()), "without a gradient"),
    "infinite gradient": (_in_training(lambda logits: (logits * 0).sqrt()), "gradients that are not finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_network_that_cannot_be_trained_is_one_line(case: str) -> None:
    make, message = CASES[case]
    with pytest.raises(UserError, match=message) as caught:
        check(make)
    assert str(caught.value).startswith("model")


@pytest.mark.parametrize(
    "make",
    [
        Net,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3)),
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)),
        lambda: torch.jit.trace(Net(), IMAGES, check_trace=False),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_networks_that_can(make: Callable[[], nn.Module]) -> None:
    check(make)


@pytest.mark.parametrize(
    ("examples", "batch", "parts", "size"),
    [(100, 32, 1, 4), (96, 32, 1, 32), (97, 32, 1, 2), (20, 32, 1, 20), (96, 32, 4, 8), (96, 32, 64, 2), (1, 8, 1, 1)],
)
def test_the_smallest_batch(examples: int, batch: int, parts: int, size: int) -> None:
    assert smallest_batch(examples, batch, parts) == size
