"""Says which datasets can be loaded without a directory, whether they are there, and whether they are undamaged."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grfd.data.cifar import SHAPE, Archive, packed_at
from grfd.data.idx import DIGITS
from grfd.data.mnist import EMBEDDED_FILES, MNIST_LICENCE, MNIST_MD5, MNIST_SOURCE, embedded_contents, from_contents
from grfd.errors import UserError
from grfd.files import is_there, open_regular


@dataclass(frozen=True)
class Available:
    """A dataset: its numbers of images, the shape of an image (channel, height, width), and whether it is undamaged.

    `there` is false for a dataset that has not been downloaded yet. `problem` is empty where the checksum, which is
    computed each time, is right; otherwise it says in one line what is wrong, and the numbers of images are 0.
    """

    name: str
    train: int
    test: int
    shape: tuple[int, ...]
    classes: int
    source: str
    licence: str
    location: str
    problem: str = ""
    there: bool = True

    @property
    def checksum_right(self) -> bool:
        return not self.problem


def available_mnist() -> Available:
    """MNIST, from the embedded files, which are unpacked and checked."""
    train, test, problem = 0, 0, ""
    shape: tuple[int, ...] = ()
    try:
        contents = embedded_contents()
        _check_md5(contents)
        data = from_contents(contents)
        train, test, shape = len(data.train), len(data.test), tuple(data.train.images.shape[1:])
    except UserError as error:  # the row reports a damaged installation
        problem = str(error)
    return Available(
        "mnist", train, test, shape, len(DIGITS), MNIST_SOURCE, MNIST_LICENCE, str(EMBEDDED_FILES), problem
    )


def available_cifar(name: str, archive: Archive) -> Available:
    """CIFAR, with the numbers of the official archive. The file is checked as a whole and not unpacked."""
    file, (train, test), problem = packed_at(archive), archive.official, ""
    there = is_there(file)
    try:
        if there:
            _check_file(file, archive.md5)
    except UserError as error:
        train, test, problem = 0, 0, str(error)
    source = f"{archive.title} (Krizhevsky 2009), {archive.url}."
    licence = "No licence is stated; cite the report."
    return Available(name, train, test, SHAPE, archive.classes, source, licence, str(file), problem, there)


def _check_file(file: Path, md5: str) -> None:
    with open_regular(file) as handle:
        digest = hashlib.file_digest(handle, "md5").hexdigest()
    if digest != md5:
        raise UserError(f"{file.name}: MD5 {digest}; expected {md5}")


def _check_md5(contents: Mapping[str, bytes | bytearray]) -> None:
    for what, content in contents.items():
        digest = hashlib.md5(content).hexdigest()
        if digest != MNIST_MD5[what]:
            raise UserError(f"{what}: MD5 {digest}; expected {MNIST_MD5[what]}")
