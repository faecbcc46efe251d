"""The sprite sheet: all small pictures of a report in one PNG, which the page cuts up again."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image


def eight_bits(images: np.ndarray) -> np.ndarray:
    """Pixels of [0, 1] as uint8; what lies outside is clipped."""
    return np.rint(255 * images.clip(0, 1)).astype(np.uint8)


def change_tiles(clean: np.ndarray, adversarial: np.ndarray) -> np.ndarray:
    """x′ − x modulo 256, from which the page computes x′ exactly. It compresses better than x′. Both are uint8."""
    return adversarial - clean  # uint8 wraps around


def sheet_columns(tiles: int) -> int:
    """The number of tiles in a line of the sheet, which is about as wide as it is high."""
    return max(math.ceil(math.sqrt(tiles)), 1)


def sprite_sheet(tiles: Sequence[np.ndarray]) -> bytes:
    """All tiles, each uint8 [channel, height, width], line by line in one PNG. Colours if a tile has three channels."""
    if not tiles:
        return b""
    channels, height, width = tiles[0].shape
    columns = sheet_columns(len(tiles))
    canvas = np.zeros((math.ceil(len(tiles) / columns) * height, columns * width, channels), dtype=np.uint8)
    for place, tile in enumerate(tiles):
        top, left = height * (place // columns), width * (place % columns)
        canvas[top : top + height, left : left + width] = np.moveaxis(tile, 0, -1)
    out = io.BytesIO()
    Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas).save(out, "PNG", compress_level=7)
    return out.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG as the address of an image within the page; empty for no image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else ""
