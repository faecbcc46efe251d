"""Brings images to one size: the shorter side is resized (antialiased bicubic), then the centre is cropped."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from grfd.errors import UserError


@dataclass(frozen=True)
class Preparation:
    """What is done to each image before it is used. By default nothing."""

    resize: int | None = None
    """Length in pixels of the shorter side."""
    crop: int | None = None
    """Side in pixels of the square that is cut out of the centre."""
    channels: int | None = None
    """1 or 3. None: the number of channels of the first image."""

    @property
    def is_nothing(self) -> bool:
        """Whether images remain as they are."""
        return self == Preparation()


def prepared_pixels(pixels: np.ndarray, how: Preparation, who: str) -> np.ndarray:
    """An image, uint8 [channel, h, w], resized and cropped. `who`: its name in messages.

    Raises `UserError` if the image is smaller than the crop.
    """
    pixels = with_channels(pixels, how.channels, who)
    if how.resize is not None and min(pixels.shape[1:]) != how.resize:
        pixels = _resized(pixels, how.resize)
    return pixels if how.crop is None else _cropped(pixels, how.crop, who)


def with_channels(pixels: np.ndarray, channels: int | None, who: str) -> np.ndarray:
    """The image with 1 or 3 channels: grey is repeated, and colour becomes its luminance."""
    have = pixels.shape[0]
    if channels is None or have == channels:
        return pixels
    if (have, channels) == (1, 3):
        return np.repeat(pixels, 3, axis=0)
    if (have, channels) == (3, 1):
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("L"))[None]
    raise UserError(f"{who} has {have} channels; expected {channels}")


def _resized(pixels: np.ndarray, shorter: int) -> np.ndarray:
    height, width = pixels.shape[1:]
    # rounded down, as torchvision and timm do
    size = (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
    channels = [Image.fromarray(channel).resize(size, Image.Resampling.BICUBIC) for channel in pixels]
    return np.stack([np.asarray(channel) for channel in channels])


def _cropped(pixels: np.ndarray, side: int, who: str) -> np.ndarray:
    height, width = pixels.shape[1:]
    if min(height, width) < side:
        raise UserError(
            f"{who} is {height}×{width}, smaller than the crop of {side}×{side}; expected --resize {side} or more"
        )
    top, left = round((height - side) / 2), round((width - side) / 2)
    return np.ascontiguousarray(pixels[:, top : top + side, left : left + side])
