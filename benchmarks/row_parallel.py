"""Gradients with respect to the images in row-parallel parts, beside PyTorch's own threads, in turn, in one run.

`python benchmarks/row_parallel.py [--repeats 9]` prints, for a LeNet5, a WRN-10-1 and a ResNet-18 at 224×224, the
medians and their ratios, and an epoch of adversarial training with either inner attack; about three minutes.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from grfd.attacks import pgd
from grfd.attacks.row_parallel import gradient_in_parts
from grfd.memory import keep_freed_memory
from grfd.models.lenet import LeNet5
from grfd.models.wide_resnet import WideResNet
from grfd.progress import progress


def resnet18() -> nn.Module:
    """A ResNet-18 of transformers, whose answer is the logits."""
    config = ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", num_labels=10)
    return Logits(ResNetForImageClassification(config))


class Logits(nn.Module):
    """The logits of a network of transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LeNet5, 256 × 1×28×28": (LeNet5, (256, 1, 28, 28)),
    "WRN-10-1, 128 × 3×32×32": (lambda: WideResNet(10, 1, channels=3, classes=10), (128, 3, 32, 32)),
    "ResNet-18, 8 × 3×224×224": (resnet18, (8, 3, 224, 224)),
}


def whole(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of a batch, each operation divided among PyTorch's threads."""
    point = images.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(point), labels, reduction="sum"), point)[0]


def parts(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The same gradient, one part for each core at a time."""
    return gradient_in_parts(model, images, lambda logits: F.cross_entropy(logits, labels, reduction="none"))[0]


def adversarial_steps(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """One step of PGD adversarial training, with ten steps of PGD."""
    model.eval()
    moved = pgd(model, images, labels, eps=0.1, step_size=0.02, steps=10, active_set=False)
    model.train()
    model.zero_grad()
    F.cross_entropy(model(moved), labels).backward()


def adversarial_steps_with_pytorch_threads(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """The same. Attacks use PyTorch's own threads, as they do for models of unknown code."""
    with mock.patch("grfd.attacks.checked_model.rows_are_independent", lambda model: False):
        adversarial_steps(model, images, labels)


Work = Callable[[nn.Module, Tensor, Tensor], object]


def medians(pair: tuple[Work, Work], arguments: tuple[nn.Module, Tensor, Tensor], repeats: int) -> tuple[float, float]:
    """The median milliseconds of each of two functions, timed in turn after one call that is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for work, times in zip(pair, seconds, strict=True):
            started = time.perf_counter()
            work(*arguments)
            if turn:
                times.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[0]), 1000 * statistics.median(seconds[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="times that each is timed (default 9)")
    repeats = parser.parse_args().repeats
    keep_freed_memory()
    table = Table("network", "work", "PyTorch's threads, ms", "row-parallel, ms", "×", "equal")
    with progress("networks", 2 * len(CASES)) as advance:
        for name, (build, shape) in CASES.items():
            torch.manual_seed(0)
            arguments = (build().eval(), torch.rand(shape), torch.randint(0, 10, shape[:1]))
            close = torch.allclose(whole(*arguments), parts(*arguments), rtol=1e-3, atol=1e-6)
            add_row(table, (name, "gradient"), medians((whole, parts), arguments, repeats), "yes" if close else "NO")
            advance(1, name)
            if not name.startswith("ResNet"):  # its code is not ours, so attacks do not divide it
                pair = (adversarial_steps_with_pytorch_threads, adversarial_steps)
                add_row(table, (name, "step of PGD-AT"), medians(pair, arguments, repeats), "–")
            advance(1, name)
    console = Console()
    console.print(table)
    console.print(f"{platform.platform()}, {os.cpu_count()} processors, PyTorch {torch.__version__}, "
                  f"{torch.get_num_threads()} threads", highlight=False)  # fmt: skip


def add_row(table: Table, names: tuple[str, str], milliseconds: tuple[float, float], equal: str) -> None:
    first, second = milliseconds
    table.add_row(*names, f"{first:.1f}", f"{second:.1f}", f"{first / second:.2f}", equal)


if __name__ == "__main__":
    main()
