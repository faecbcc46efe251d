"""What can be loaded without a directory, and whether it is what it should be."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from grfd.data.idx import DIGITS
from grfd.data.mnist import FOLDER, LICENCE, MD5, SOURCE, embedded_contents, from_contents
from grfd.errors import UserError


@dataclass(frozen=True)
class Available:
    """A dataset that is there: numbers of images, shape of one (channel, height, width), and its checksum's verdict.

    `problem` is empty if the checksum, computed anew, is right; else it is one line that says what is wrong, and the
    numbers are 0.
    """

    name: str
    train: int
    test: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    source: str
    licence: str
    location: str
    problem: str

    @property
    def checksum_right(self) -> bool:
        return not self.problem


def describe() -> list[Available]:
    """One row a dataset that needs no directory. Reads and checks all of its files: about a second each."""
    return [_mnist()]


def _mnist() -> Available:
    train, test, problem = 0, 0, ""
    shape: tuple[int, ...] = ()
    try:
        contents = embedded_contents()
        _check_md5(contents)
        data = from_contents(contents)
        train, test, shape = len(data.train), len(data.test), tuple(data.train.images.shape[1:])
    except UserError as error:  # a damaged installation is what this row is there to tell
        problem = str(error)
    return Available("mnist", train, test, shape, DIGITS, SOURCE, LICENCE, str(FOLDER), problem)


def _check_md5(contents: Mapping[str, bytes | bytearray]) -> None:
    for what, content in contents.items():
        found = hashlib.md5(content).hexdigest()
        if found != MD5[what]:
            raise UserError(f"{what}: MD5 {found}; expected {MD5[what]}")
