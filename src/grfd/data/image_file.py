"""Reads one image file as 8-bit pixels. Image folders and `grfd predict` both use it.

Only the formats in `IMAGE_FORMATS` are decoded, because other decoders of Pillow may run programs (Ghostscript for an
EPS file). The EXIF orientation is applied, an alpha channel is dropped, and of several frames the first is taken. Of 16
bits per channel the upper 8 are kept, as Pillow does for colour images: 38·257 and 38·256 both become 38.
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
"""Number of pixels of the largest image that is decoded: 8192 × 8192."""
MOST_BYTES = 2**29
"""Size in bytes of the largest image file."""


class BrokenImage(UserError):
    """A file that cannot be read as an image. `--skip-broken` leaves such files out."""


_GREY_MODES = ("1", "L", "LA")
_GREY_16_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_PALETTE_MODES = ("P", "PA")
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", *_PALETTE_MODES)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF


def read_pixels(path: Path, channels: int | None = None) -> np.ndarray:
    """The image in a file, uint8 [channels, h, w]. `channels`: 1 or 3, or None for that of the file.

    Raises `BrokenImage`, a `UserError`, for a file that is not regular, not an image of `IMAGE_FORMATS`, damaged, of
    more than `MOST_PIXELS`, or whose pixels do not have 8 or 16 bits per channel.
    """
    with without_warnings():
        return decoded(path, channels)


def decoded(path: Path, channels: int | None = None) -> np.ndarray:
    """`read_pixels` for use in threads: the caller enters `without_warnings` once, since threads must not do it."""
    try:
        content = io.BytesIO(read_regular(path, MOST_BYTES))
        with Image.open(content, formats=tuple(IMAGE_FORMATS)) as image:
            _check(path, image)
            return _pixels(image, channels)
    except UserError as error:
        raise BrokenImage(str(error)) from error
    except UnidentifiedImageError as error:
        raise BrokenImage(f"{path} cannot be read as an image: expected one of {', '.join(IMAGE_FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(f"{path} has too many pixels; expected at most {MOST_PIXELS:,}") from error
    except Exception as error:  # decoders may raise any exception on a damaged file
        raise BrokenImage(f"{path} cannot be read as an image: {reason(error)}; expected a complete file") from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hides the warnings of decoders: their subject is refused here (too many pixels) or harmless (odd metadata)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check(path: Path, image: Image.Image) -> None:
    """Checks what the header says, before any pixel is decoded."""
    width, height = image.size
    if not 0 < width * height <= MOST_PIXELS:
        raise UserError(f"{path} has {height}×{width} pixels; expected from 1 to {MOST_PIXELS:,} in all")
    wide = image.mode == "I" and image.format in (
        "PNG",
        "PPM",
    )  # 16 bits stored in 32; in other formats the scale of 32 bits is unknown
    if not wide and image.mode not in (*_GREY_MODES, *_GREY_16_MODES, *_COLOUR_MODES):
        raise UserError(f"{path} has pixels of kind '{image.mode}'; expected 8 or 16 bits per channel, grey or colour")


def _pixels(image: Image.Image, channels: int | None) -> np.ndarray:
    grey, (shift, inverted) = _is_grey(image), _scale(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        values = (np.asarray(upright).astype(np.int64).clip(0, 65535) >> shift).clip(0, 255).astype(np.uint8)
        upright = Image.fromarray(255 - values if inverted else values)
    if upright.mode in _PALETTE_MODES:
        # through RGBA, because Pillow warns when it drops the transparency of a palette in one step
        upright = upright.convert("RGBA")
    if channels == 1 or (channels is None and grey):
        return np.array(upright.convert("L"))[None]
    return np.array(upright.convert("RGB")).transpose(2, 0, 1)


def _is_grey(image: Image.Image) -> bool:
    """Whether the file is grey. Pillow opens 16-bit grey with an alpha channel as RGBA, so the mode is not enough."""
    wide_with_alpha = any(tile.args == "LA;16B" for tile in getattr(image, "tile", ()))
    return image.mode in (*_GREY_MODES, *_GREY_16_MODES, "I") or wide_with_alpha


def _scale(image: Image.Image) -> tuple[int, bool]:
    """How many bits 16-bit grey is shifted by to get 8 (TIFF also stores 12 bits in 16), and whether 0 is white."""
    tags = getattr(image, "tag_v2", None) or {}
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return max(int(bits) - 8, 0), tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
