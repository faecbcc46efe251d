"""The IDX format of the official MNIST files: conversion of bytes to tensors and back, and loading from a directory.

Format (http://yann.lecun.com/exdb/mnist/): two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each
dimension as a big-endian 32-bit integer, then the bytes in C order.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grfd.data.record import Data, Split
from grfd.errors import UserError
from grfd.files import is_folder, is_there, read_regular, reason

_CHUNK = 2**20
GZIP_MAGIC = b"\x1f\x8b"
LARGEST_IDX_FILE = 2**30
"""Size in bytes of the largest IDX file that is read, packed or not: twice the largest of EMNIST."""
DIGITS = tuple("0123456789")
IDX_FILES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
_FOLDERS = (".", "raw", "MNIST/raw")  # the last two are where torchvision puts them


def from_idx(content: bytes | bytearray, ndim: int, name: str) -> Tensor:
    """The uint8 tensor of `ndim` dimensions in the bytes of an IDX file. `name`: the file's name in messages.

    The tensor shares the memory of a bytearray; bytes are copied.
    Raises UserError for a wrong magic number, a truncated header or body, and trailing bytes.
    """
    header, expected, shape = _claim(content, ndim, name)
    length = len(content)
    if length != expected:
        problem = "truncated" if length < expected else "trailing bytes"
        raise UserError(f"{name}: {problem}, {length} bytes; expected {expected} for shape {list(shape)}")
    # PyTorch needs writable memory; numpy, unlike PyTorch, also accepts an empty buffer
    writable = content if isinstance(content, bytearray) else bytearray(content)
    return torch.from_numpy(np.frombuffer(writable, np.uint8, length - header, header).reshape(shape))


def _claim(content: bytes | bytearray, ndim: int, name: str) -> tuple[int, int, tuple[int, ...]]:
    """What the header claims: its own length, the length of the file, and the shape of the tensor."""
    magic = bytes((0, 0, 8, ndim))
    if content[:4] != magic:
        raise UserError(
            f"{name}: starts with bytes {content[:4].hex() or '(none)'}; expected the IDX magic {magic.hex()}"
        )
    header = 4 + 4 * ndim
    if len(content) < header:
        raise UserError(f"{name}: truncated, {len(content)} bytes; expected a header of {header}")
    shape = struct.unpack(f">{ndim}I", content[4:header])
    # max, because each size must be below the limit, even where another one is 0
    if math.prod(max(size, 1) for size in shape) > LARGEST_IDX_FILE:
        raise UserError(f"{name}: the header claims shape {list(shape)}; expected at most {LARGEST_IDX_FILE:,} bytes")
    return header, header + math.prod(shape), shape


def to_idx(values: Tensor) -> bytes:
    """The IDX bytes of an integer tensor with values in 0…255, of any shape."""
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


def read_idx(path: Path, ndim: int) -> Tensor:
    """The uint8 tensor in an IDX file, gzipped or not. Raises UserError as `read_content` and `from_idx` do.

    A gzipped file is unpacked only up to the length that its header claims, plus one byte.
    """
    content = read_regular(path, LARGEST_IDX_FILE)
    if not content.startswith(GZIP_MAGIC):
        return from_idx(content, ndim, str(path))
    _, expected, _ = _claim(_unzipped(path, content, 4 + 4 * ndim), ndim, str(path))
    return from_idx(_unzipped(path, content, expected + 1), ndim, str(path))


def read_content(path: Path) -> bytes:
    """The bytes of a file, unpacked where its content is gzipped. Raises UserError where it is too large."""
    content = read_regular(path, LARGEST_IDX_FILE)
    if not content.startswith(GZIP_MAGIC):
        return content
    unpacked = _unzipped(path, content, LARGEST_IDX_FILE + 1)
    if len(unpacked) > LARGEST_IDX_FILE:
        raise UserError(
            f"{path}: unpacks to more than {LARGEST_IDX_FILE:,} bytes; expected an IDX file, gzipped or not"
        )
    return unpacked


def _unzipped(path: Path, content: bytes, count: int) -> bytes:
    """The first `count` bytes of a gzipped file. Where that is all of it, the checksum is verified too."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            # in parts, because a single read would reserve memory for all of it
            return b"".join(stream.read(min(_CHUNK, count - start)) for start in range(0, count, _CHUNK))
    except EOFError as error:
        raise UserError(f"{path}: truncated gzip file; expected a complete one") from error
    except (OSError, zlib.error, MemoryError) as error:
        problem = reason(error)
        raise UserError(f"{path}: cannot be read ({problem}); expected an IDX file, gzipped or not") from error


def find_idx(directory: Path, what: str) -> Path:
    """The path of one of `IDX_FILES` below `directory`, also with ".idx" for "-idx" or gzipped. Raises UserError."""
    base = IDX_FILES[what]
    names = [name + suffix for name in (base, base.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    for folder in _FOLDERS:
        for name in names:
            path = directory / folder / name
            if is_there(path) and not is_folder(path):  # some tools unpack a file into a folder of the same name
                return path
    raise UserError(f"no {what} in {directory}; expected {base} (or {base}.gz), there or in raw/ or MNIST/raw/")


def load_idx(directory: Path, name: str = "mnist") -> Data:
    """The dataset in four IDX files below `directory`: images uint8 [n, 1, h, w], labels int64 [n] in 0…9."""
    if not is_folder(directory):
        raise UserError(f"{directory} is not a folder; expected one with {', '.join(IDX_FILES.values())}")
    train, test = (_load_split(directory, split) for split in ("train", "test"))
    return Data(name, train, test, DIGITS, f"IDX files in {directory}")


def _load_split(directory: Path, split: str) -> Split:
    image_path, label_path = find_idx(directory, f"{split} images"), find_idx(directory, f"{split} labels")
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if len(images) != len(labels):
        raise UserError(
            f"{label_path}: {len(labels)} labels; expected {len(images)}, the number of images in {image_path.name}"
        )
    return Split(images.unsqueeze(1), labels.to(torch.int64))
