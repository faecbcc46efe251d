"""Builds the embedded MNIST files from the official ones: `python -m grfd.data.build_mnist IDX_DIR [TARGET_DIR]`.

TARGET_DIR is by default the folder `mnist_files/` of the package. It takes about a minute.
"""

import hashlib
import lzma
import sys
from itertools import pairwise
from pathlib import Path

from grfd.data.idx import find_idx, read_content
from grfd.data.mnist import EMBEDDED_FILES, MNIST_MD5, MNIST_PIECES, piece_name
from grfd.errors import UserError

# All four literal-context bits and no position bits, because a pixel predicts the next one best, and rows of 28 bytes
# are not aligned to a power of two. Chosen by measurement (docs/measured.md). The dictionary holds one whole piece.
_DICTIONARY = 24 * 2**20
_FILTERS = [
    {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": _DICTIONARY, "lc": 4, "lp": 0, "pb": 0}
]


def build(source: Path, target: Path) -> None:
    """Writes the pieces of the official files in `source` to `target`. Raises UserError for any other files."""
    for what, count in MNIST_PIECES.items():
        path = find_idx(source, what)
        content = read_content(path)
        digest = hashlib.md5(content).hexdigest()
        if digest != MNIST_MD5[what]:
            raise UserError(f"{path}: MD5 {digest}; expected {MNIST_MD5[what]}, that of the official file")
        for piece, part in enumerate(cut(content, count)):
            (target / piece_name(what, piece)).write_bytes(packed(part))


def cut(content: bytes, count: int) -> list[bytes]:
    """Cuts `content` into `count` pieces of nearly equal length, in order."""
    bounds = [len(content) * piece // count for piece in range(count + 1)]
    return [content[start:end] for start, end in pairwise(bounds)]


def packed(part: bytes) -> bytes:
    """Compresses `part` to an xz file."""
    return lzma.compress(part, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=_FILTERS)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else str(EMBEDDED_FILES)))
