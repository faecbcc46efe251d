"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images).

The official archives are read from a user's folder in the layout of torchvision (unpacked, or the .tar.gz itself), or
downloaded once from the official address. They contain Python 2 pickles, which could run code, so `pickles` reads them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grfd.data.archive import MEMBER_LIMIT, members
from grfd.data.download import cache, downloaded
from grfd.data.given import described_value
from grfd.data.pickles import unpickled
from grfd.data.record import Data, Split
from grfd.errors import UserError
from grfd.files import is_folder, is_there, read_regular, reason

SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Archive:
    """An official archive, and where its parts are."""

    title: str
    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str
    classes: int
    official: tuple[int, int]
    """Number of training and of test images."""


CIFAR10 = Archive(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    labels="labels",
    names="label_names",
    classes=10,
    official=(50_000, 10_000),
)
CIFAR100 = Archive(
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels="fine_labels",
    names="fine_label_names",
    classes=100,
    official=(50_000, 10_000),
)


def load_cifar10(directory: Path | None) -> Data:
    """CIFAR-10, uint8 [n, 3, 32, 32]. Raises `UserError` where it is damaged, or missing and cannot be downloaded."""
    return _load("cifar10", CIFAR10, directory)


def load_cifar100(directory: Path | None) -> Data:
    """CIFAR-100 with its 100 fine labels; otherwise as `load_cifar10`."""
    return _load("cifar100", CIFAR100, directory)


def _load(name: str, archive: Archive, directory: Path | None) -> Data:
    read, where = _found(archive, directory)
    parts = [_rows(read(member), archive, member) for member in archive.train]
    train = Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    test = _rows(read(archive.test), archive, archive.test)
    classes = _names(read(archive.meta), archive)
    counts = (len(train), len(test))
    source = f"{archive.title}, {counts[0]:,} training and {counts[1]:,} test images, from {where.name}"
    if counts != archive.official:
        source += f" (the official archive holds {archive.official[0]:,} and {archive.official[1]:,})"
    return Data(name, train, test, classes, source)


def packed_at(archive: Archive) -> Path:
    """The path of a downloaded archive, whether or not it is there yet."""
    return cache() / archive.url.rsplit("/", 1)[1]


_Read = Callable[[str], dict[str, Any]]


def _found(archive: Archive, directory: Path | None) -> tuple[_Read, Path]:
    """A function that reads a member, and its source: the folder, the archive in it, or the downloaded archive."""
    file = packed_at(archive)
    packed = file.name
    if directory is None:
        return _from_archive(downloaded(archive.url, archive.md5, file), archive), file
    if not is_folder(directory):
        raise UserError(f"{directory} is not a folder; expected one that holds {archive.folder}/ or {packed}")
    for folder in (directory / archive.folder, directory):
        if is_there(folder / archive.meta) and is_there(folder / archive.test):
            return _from_folder(folder), folder
    if is_there(directory / packed):
        return _from_archive(directory / packed, archive), directory / packed
    raise UserError(f"{directory} holds neither {archive.folder}/ nor {packed}, which come from {archive.url}")


def _from_folder(folder: Path) -> _Read:
    return lambda member: _batch(read_regular(folder / member, MEMBER_LIMIT), folder / member)


def _from_archive(file: Path, archive: Archive) -> _Read:
    contents = members(file, {*archive.train, archive.test, archive.meta})
    return lambda member: _batch(contents[member], file / member)


def _batch(content: bytes, where: Path) -> dict[str, Any]:
    try:
        batch = unpickled(content)
    except Exception as error:  # a damaged pickle may raise any exception
        raise UserError(f"{where} cannot be read: {reason(error)}") from error
    if not isinstance(batch, dict):
        raise UserError(f"{where} holds a {type(batch).__name__}: expected the dictionary of a CIFAR batch")
    return {_text(key): value for key, value in batch.items() if isinstance(key, str | bytes)}


def _entry(batch: dict[str, Any], key: str, member: str) -> Any:
    if key not in batch:
        raise UserError(f"{member} holds no {key!r}: expected a file of the official archive")
    return batch[key]


def _rows(batch: dict[str, Any], archive: Archive, member: str) -> Split:
    images, labels = _entry(batch, "data", member), _entry(batch, archive.labels, member)
    size = int(np.prod(SHAPE))
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != size:
        shape = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise UserError(f"{member}: data are {shape}; expected uint8 (n, {size})")
    if not isinstance(labels, list | tuple | np.ndarray) or (isinstance(labels, np.ndarray) and labels.ndim != 1):
        raise UserError(f"{member}: {archive.labels} are {described_value(labels)}; expected a list of class numbers")
    if len(images) != len(labels):
        raise UserError(f"{member}: {len(images)} images but {len(labels)} labels; expected the same number")
    return Split(torch.from_numpy(images.copy()).view(-1, *SHAPE), _labels(labels, archive.classes, member))


def _labels(labels: Sequence[object] | np.ndarray, classes: int, member: str) -> Tensor:
    for index, label in enumerate(labels):
        whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
        if not whole or not 0 <= label < classes:
            raise UserError(
                f"{member}: label {index} is {described_value(label)}; expected an integer from 0 to {classes - 1}"
            )
    return torch.tensor(np.asarray(labels, dtype=np.int64))


def _names(batch: dict[str, Any], archive: Archive) -> tuple[str, ...]:
    names = _entry(batch, archive.names, archive.meta)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str | bytes) for name in names):
        raise UserError(f"{archive.meta}: {archive.names} are {described_value(names)}; expected a list of names")
    if len(names) != archive.classes:
        raise UserError(f"{archive.meta}: {len(names)} {archive.names}; expected {archive.classes}")
    return tuple(_text(name) for name in names)


def _text(value: str | bytes) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
