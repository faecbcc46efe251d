"""Datasets as tensors. A new dataset is one file with a loader and one entry in `DATASETS`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from grfd.data.available import Available, available_cifar, available_mnist
from grfd.data.cifar import CIFAR10, CIFAR100, load_cifar10, load_cifar100
from grfd.data.folder import load_folder
from grfd.data.mnist import load_mnist
from grfd.data.preparing import Preparation
from grfd.data.reading import in_memory, prepared_data, without_broken
from grfd.data.record import Data, Split, as_images, checked_data, from_tensors, joined
from grfd.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """All that the package knows of a dataset.

    `title`: its name in tables. `load`: reads it from a directory, or without one. `describe`: says what is there; None
    for a dataset that always needs a directory. `load_prepared`: reads it with a preparation, on demand; True as third
    argument asks for all images as test images.
    """

    title: str
    load: Callable[[Path | None], Data]
    describe: Callable[[], Available] | None = None
    load_prepared: Callable[[Path | None, Preparation, bool], Data] | None = None


def _folder(directory: Path | None, how: Preparation, whole: bool) -> Data:
    return load_folder(directory, how, whole=whole)


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset("MNIST", load_mnist, available_mnist),
    "folder": Dataset("image folder", load_folder, load_prepared=_folder),
    "cifar10": Dataset("CIFAR-10", load_cifar10, partial(available_cifar, "cifar10", CIFAR10)),
    "cifar100": Dataset("CIFAR-100", load_cifar100, partial(available_cifar, "cifar100", CIFAR100)),
}

__all__ = [
    "DATASETS",
    "Available",
    "Data",
    "Dataset",
    "Preparation",
    "Split",
    "as_images",
    "checked_data",
    "describe",
    "from_tensors",
    "load",
    "opened_data",
]


def load(
    name: str,
    directory: str | Path | None = None,
    *,
    resize: int | None = None,
    crop: int | None = None,
    skip_broken: bool = False,
) -> Data:
    """Loads and checks a dataset, from `directory` where given. Raises UserError for an unknown name or bad data.

    `resize`: the length of the shorter side, and `crop`: the side of the centre square, to which images are brought.
    `skip_broken`: leave out files that cannot be read. A split of more than 1 GiB stays on disk until it is used.
    """
    data = opened_data(name, None if directory is None else Path(directory), Preparation(resize, crop))
    if data.train.images.numel() == 0:
        raise UserError(f"{data.source} has no training images; expected train/ and test/, or class folders")
    return in_memory(without_broken(data) if skip_broken else data)


def opened_data(
    name: str, directory: Path | None = None, how: Preparation | None = None, *, whole: bool = False
) -> Data:
    """A dataset whose images are decoded on demand where it consists of files, or where they are prepared.

    `whole`: all images become the test split. Such a dataset, or a folder with a test split alone, can be judged only.
    """
    if name not in DATASETS:
        raise UserError(f"unknown dataset '{name}'; expected one of: {', '.join(DATASETS)}, or package.module:factory")
    entry, how = DATASETS[name], how or Preparation()
    if entry.load_prepared is not None:
        return checked_data(entry.load_prepared(directory, how, whole), judged=True)
    data = checked_data(entry.load(directory))
    data = data if how.is_nothing else prepared_data(data, how)
    return joined(data) if whole else data


def describe() -> list[Available]:
    """One row for each dataset that needs no directory. Reads and checks all files; each takes about a second."""
    return [entry.describe() for entry in DATASETS.values() if entry.describe is not None]
