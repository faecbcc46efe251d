"""Datasets as tensors. A new dataset is one file with a loader and one entry in `DATASETS`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from grfd.data.available import Available, available_cifar, available_mnist
from grfd.data.cifar import CIFAR10, CIFAR100, load_cifar10, load_cifar100
from grfd.data.folder import load_folder
from grfd.data.mnist import load_mnist
from grfd.data.record import Data, Split, as_images, checked_data, from_tensors
from grfd.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """All that the package knows of a dataset.

    `title`: its name in tables. `load`: reads it from a directory, or without one. `describe`: says what is there; None
    for a dataset that always needs a directory.
    """

    title: str
    load: Callable[[Path | None], Data]
    describe: Callable[[], Available] | None = None


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset("MNIST", load_mnist, available_mnist),
    "folder": Dataset("image folder", load_folder),
    "cifar10": Dataset("CIFAR-10", load_cifar10, partial(available_cifar, "cifar10", CIFAR10)),
    "cifar100": Dataset("CIFAR-100", load_cifar100, partial(available_cifar, "cifar100", CIFAR100)),
}

__all__ = [
    "DATASETS",
    "Available",
    "Data",
    "Dataset",
    "Split",
    "as_images",
    "checked_data",
    "describe",
    "from_tensors",
    "load",
]


def load(name: str, directory: Path | None = None) -> Data:
    """Loads and checks a dataset, from `directory` where given. Raises UserError for an unknown name or bad data."""
    if name not in DATASETS:
        raise UserError(f"unknown dataset '{name}'; expected one of: {', '.join(DATASETS)}")
    return checked_data(DATASETS[name].load(directory))


def describe() -> list[Available]:
    """One row for each dataset that needs no directory. Reads and checks all files; each takes about a second."""
    return [entry.describe() for entry in DATASETS.values() if entry.describe is not None]
