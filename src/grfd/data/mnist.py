"""MNIST, embedded in the package, or a user's own copy of the official files."""

from pathlib import Path

from grfd.data.idx import load_idx
from grfd.data.record import Data
from grfd.errors import UserError


def load_mnist(directory: Path | None) -> Data:
    if directory is None:
        raise UserError("interim: give /tmp/lab/package/data as the directory, until the embedded files land")
    return load_idx(directory)
