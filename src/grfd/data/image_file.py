"""One image file as 8-bit pixels: the only reader of image files, for image folders and for `grfd predict`.

The formats are named, so that no other decoder of Pillow sees a user's bytes (an EPS file would start Ghostscript).
The EXIF orientation is applied, an alpha channel is dropped, and of several frames the first is taken. Of 16 bits a
channel the upper 8 are kept, which is what Pillow itself does to colour: 38·257 and 38·256 both become 38.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from grfd.errors import UserError
from grfd.files import read_regular, reason

IMAGE_FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pgm", ".ppm"),
}
IMAGE_SUFFIXES = tuple(suffix for suffixes in IMAGE_FORMATS.values() for suffix in suffixes)
MOST_PIXELS = 2**26
"""Pixels of the largest image that is decoded: 8192 × 8192."""
MOST_BYTES = 2**29
"""Bytes of the largest image file."""

_GREY_MODES = ("1", "L", "LA")
_GREY_16_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_PALETTE_MODES = ("P", "PA")
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", *_PALETTE_MODES)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF


def read_pixels(path: Path, channels: int | None = None) -> np.ndarray:
    """The image in a file, uint8 [channels, h, w]; `channels` is 1 or 3, by default what the file has.

    Raises `UserError` for what is no regular file, no image of `IMAGE_FORMATS`, damaged, larger than `MOST_PIXELS`, or
    has pixels of another kind than 8 or 16 bits a channel.
    """
    with without_warnings():
        return decoded(path, channels)


def decoded(path: Path, channels: int | None = None) -> np.ndarray:
    """`read_pixels` for several threads: the caller holds `without_warnings`, which must not be entered by each."""
    content = io.BytesIO(read_regular(path, MOST_BYTES))
    try:
        with Image.open(content, formats=tuple(IMAGE_FORMATS)) as image:
            _check(path, image)
            return _pixels(image, channels)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path} cannot be read as an image: expected one of {', '.join(IMAGE_FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has too many pixels; expected at most {MOST_PIXELS:,}") from error
    except Exception as error:  # decoders raise anything on a damaged file
        raise UserError(f"{path} cannot be read as an image: {reason(error)}; expected a complete file") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """What decoders only warn of is either refused here (too many pixels) or does not matter (odd metadata)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check(path: Path, image: Image.Image) -> None:
    """What the header tells, before any pixel is decoded."""
    width, height = image.size
    if not 0 < width * height <= MOST_PIXELS:
        raise UserError(f"{path} has {height}×{width} pixels; expected from 1 to {MOST_PIXELS:,} in all")
    wide = image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits in 32; elsewhere 32 bits of any scale
    if not wide and image.mode not in (*_GREY_MODES, *_GREY_16_MODES, *_COLOUR_MODES):
        raise UserError(f"{path} has pixels of kind '{image.mode}'; expected 8 or 16 bits a channel, grey or colour")


def _pixels(image: Image.Image, channels: int | None) -> np.ndarray:
    grey, (shift, inverted) = _is_grey(image), _scale(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        values = (np.asarray(upright).astype(np.int64).clip(0, 65535) >> shift).clip(0, 255).astype(np.uint8)
        upright = Image.fromarray(255 - values if inverted else values)
    if upright.mode in _PALETTE_MODES:
        # through RGBA, because Pillow warns when it drops a palette's transparency in one step
        upright = upright.convert("RGBA")
    if channels == 1 or (channels is None and grey):
        return np.array(upright.convert("L"))[None]
    return np.array(upright.convert("RGB")).transpose(2, 0, 1)


def _is_grey(image: Image.Image) -> bool:
    """By the file: Pillow opens grey of 16 bits with an alpha channel as RGBA."""
    wide_with_alpha = any(tile.args == "LA;16B" for tile in getattr(image, "tile", ()))
    return image.mode in (*_GREY_MODES, *_GREY_16_MODES, "I") or wide_with_alpha


def _scale(image: Image.Image) -> tuple[int, bool]:
    """By how many bits grey of 16 bits is shifted to get 8, and whether 0 is white: TIFF also has 12 bits in 16."""
    tags = getattr(image, "tag_v2", None) or {}
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return max(int(bits) - 8, 0), tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
