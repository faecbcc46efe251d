"""The IDX format of the official MNIST files: bytes to tensors and back, and a user's own copy in a directory.

Format (http://yann.lecun.com/exdb/mnist/): two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each
dimension as a big-endian 32-bit integer, then the bytes in C order.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grfd.data.record import Data, Split
from grfd.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"
DIGITS = tuple("0123456789")
FILES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
FOLDERS = (".", "raw", "MNIST/raw")  # the last two are where torchvision puts them


def from_idx(content: bytes | bytearray, ndim: int, name: str) -> Tensor:
    """The uint8 tensor of `ndim` dimensions that `content` holds; `name` is the file's, for errors.

    The tensor shares the memory of a bytearray, and copies bytes.
    Raises UserError for a wrong magic number, a truncated header or body, and trailing bytes.
    """
    magic = bytes((0, 0, 8, ndim))
    if content[:4] != magic:
        raise UserError(
            f"{name}: starts with bytes {content[:4].hex() or '(none)'}; expected the IDX magic {magic.hex()}"
        )
    header = 4 + 4 * ndim
    if len(content) < header:
        raise UserError(f"{name}: truncated, {len(content)} bytes; expected a header of {header}")
    shape = struct.unpack(f">{ndim}I", content[4:header])
    expected, found = header + math.prod(shape), len(content)
    if found != expected:
        problem = "truncated" if found < expected else "trailing bytes"
        raise UserError(f"{name}: {problem}, {found} bytes; expected {expected} for shape {list(shape)}")
    # torch wants memory that can be written to; numpy, unlike torch, also accepts an empty buffer.
    writable = content if isinstance(content, bytearray) else bytearray(content)
    return torch.from_numpy(np.frombuffer(writable, np.uint8, found - header, header).reshape(shape))


def to_idx(values: Tensor) -> bytes:
    """The IDX bytes of an integer tensor with values in 0…255, of any shape."""
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


def read_idx(path: Path, ndim: int) -> Tensor:
    """The uint8 tensor in an IDX file, gzipped or not. Raises UserError as `read_content` and `from_idx` do."""
    return from_idx(read_content(path), ndim, str(path))


def read_content(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is gzipped (told by content). Raises UserError if it cannot be read."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except EOFError as error:
        raise UserError(f"{path}: truncated gzip file; expected a complete one") from error
    except (OSError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected an IDX file, gzipped or not") from error


def find_idx(directory: Path, what: str) -> Path:
    """The path of one of `FILES` in `directory`, with '-' or '.' before "idx", gzipped or not. Else UserError."""
    base = FILES[what]
    names = [name + suffix for name in (base, base.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    for folder in FOLDERS:
        for name in names:
            if (directory / folder / name).is_file():
                return directory / folder / name
    raise UserError(f"no {what} in {directory}; expected {base} (or {base}.gz), there or in raw/ or MNIST/raw/")


def load_idx(directory: Path, name: str = "mnist") -> Data:
    """The dataset in the four official files of `directory`: images uint8 [n, 1, h, w], labels int64 [n] in 0…9."""
    if not directory.is_dir():
        raise UserError(f"{directory} is not a folder; expected one with {', '.join(FILES.values())}")
    train, test = (_load_split(directory, split) for split in ("train", "test"))
    return Data(name, train, test, DIGITS, f"IDX files in {directory}")


def _load_split(directory: Path, split: str) -> Split:
    image_path, label_path = find_idx(directory, f"{split} images"), find_idx(directory, f"{split} labels")
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if len(images) != len(labels):
        raise UserError(
            f"{label_path}: {len(labels)} labels; expected {len(images)}, as many as {image_path.name} images"
        )
    return Split(images.unsqueeze(1), labels.to(torch.int64))
