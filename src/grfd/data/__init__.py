"""Datasets as tensors. A new dataset is one file with a loader, and one line in `DATASETS`."""

from collections.abc import Callable
from pathlib import Path

from grfd.data.available import Available, describe
from grfd.data.cifar import load_cifar10, load_cifar100
from grfd.data.folder import load_folder
from grfd.data.mnist import load_mnist
from grfd.data.record import Data, Split, as_images, checked, from_tensors
from grfd.errors import UserError

DATASETS: dict[str, Callable[[Path | None], Data]] = {
    "mnist": load_mnist,
    "folder": load_folder,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
}

__all__ = ["DATASETS", "Available", "Data", "Split", "as_images", "checked", "describe", "from_tensors", "load"]


def load(name: str, directory: Path | None = None) -> Data:
    """The checked dataset `name`, from `directory` where given. Raises UserError for an unknown name or bad data."""
    if name not in DATASETS:
        raise UserError(f"unknown dataset '{name}'; expected one of: {', '.join(DATASETS)}")
    return checked(DATASETS[name](directory))
