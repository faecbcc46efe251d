"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images).

The official archives: read from a user's folder in torchvision's layout (unpacked, or the .tar.gz itself), or
downloaded once from the official address. They hold Python 2 pickles, which could run code: only numpy arrays and plain
values are allowed to be made of them.
"""

import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grfd.data.download import cache, downloaded
from grfd.data.record import Data, Split
from grfd.errors import UserError

SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Archive:
    """One official archive: what lies where in it."""

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
    """Training and test images of the official archive."""


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


class Reader(pickle.Unpickler):
    """Makes numpy arrays and plain values (numbers, strings, lists, dictionaries), and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        where = module.replace("numpy._core", "numpy.core")
        if (where, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.ndarray.__reduce__(np.empty(0))[0]
        if (where, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array and no plain value")


def load_cifar10(directory: Path | None) -> Data:
    """CIFAR-10, uint8 [n, 3, 32, 32]. Raises `UserError` where it is not there and cannot be had, or is damaged."""
    return _load("cifar10", CIFAR10, directory)


def load_cifar100(directory: Path | None) -> Data:
    """CIFAR-100 with its 100 fine labels; else as `load_cifar10`."""
    return _load("cifar100", CIFAR100, directory)


def _load(name: str, archive: Archive, directory: Path | None) -> Data:
    read, where = _found(archive, directory)
    parts = [_rows(read(member), archive, member) for member in archive.train]
    train = Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    test = _rows(read(archive.test), archive, archive.test)
    classes = tuple(_text(each) for each in _entry(read(archive.meta), archive.names, archive.meta))
    counts = (len(train), len(test))
    source = f"{archive.title}, {counts[0]:,} training and {counts[1]:,} test images, from {where.name}"
    if counts != archive.official:
        source += f" (the official archive holds {archive.official[0]:,} and {archive.official[1]:,})"
    return Data(name, train, test, classes, source)


def packed_at(archive: Archive) -> Path:
    """Where a downloaded archive lies, or will lie."""
    return cache() / archive.url.rsplit("/", 1)[1]


Read = Callable[[str], dict[str, Any]]


def _found(archive: Archive, directory: Path | None) -> tuple[Read, Path]:
    """How a member is read, and from where: the folder, the archive in it, or the archive downloaded."""
    file = packed_at(archive)
    packed = file.name
    if directory is None:
        return _from_archive(downloaded(archive.url, archive.md5, file)), file
    if not directory.is_dir():
        raise UserError(f"{directory} is not a folder; expected one that holds {archive.folder}/ or {packed}")
    for folder in (directory / archive.folder, directory):
        if (folder / archive.meta).exists() and (folder / archive.test).exists():
            return _from_folder(folder), folder
    if (directory / packed).exists():
        return _from_archive(directory / packed), directory / packed
    raise UserError(f"{directory} holds neither {archive.folder}/ nor {packed}, which come from {archive.url}")


def _from_folder(folder: Path) -> Read:
    def read(member: str) -> dict[str, Any]:
        try:
            return _unpickled((folder / member).read_bytes(), folder / member)
        except OSError as error:
            raise UserError(f"{folder / member} cannot be read: {error.strerror}") from error

    return read


def _from_archive(file: Path) -> Read:
    """All members at once: a .tar.gz is read from its beginning for each."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(file, "r:gz") as archive:
            for member in archive:
                handle = archive.extractfile(member) if member.isfile() else None
                if handle is not None:
                    contents[member.name.rsplit("/", 1)[-1]] = handle.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{file} is no whole archive ({error}): delete it, and it is had anew") from error

    def read(member: str) -> dict[str, Any]:
        if member not in contents:
            raise UserError(f"{file} holds no {member}: delete it, and it is had anew")
        return _unpickled(contents[member], file / member)

    return read


def _unpickled(content: bytes, where: Path) -> dict[str, Any]:
    try:
        found = Reader(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{where} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{where} holds a {type(found).__name__}: expected the dictionary of a CIFAR batch")
    return {_text(key): value for key, value in found.items()}


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
    if len(images) != len(labels):
        raise UserError(f"{member}: {len(images)} images but {len(labels)} labels; expected as many")
    return Split(torch.from_numpy(images.copy()).view(-1, *SHAPE), torch.tensor([int(label) for label in labels]))


def _text(value: str | bytes) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
