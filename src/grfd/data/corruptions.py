"""Common corruptions at five severities (Hendrycks & Dietterich 2019, arXiv 1903.12261), for images of any size.

The strengths are those that the authors chose for 32×32 pixels (CIFAR-10-C). Lengths are multiplied by the shorter
side divided by 32. Two are reconstructions: frost is drawn from a fractal instead of the authors' photographs, and the
elastic transformation lacks their affine part. A corruption is a function (image [height, width, channel] in [0, 1],
severity from 1 to 5, random stream) → image.
"""

import io
from collections.abc import Callable

import numpy as np
import scipy
import torch
from PIL import Image

from grfd.types import Images

SEVERITIES = (1, 2, 3, 4, 5)
_Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def corrupted(images: Images, name: str, severity: int, seed: int) -> Images:
    """Images [n, channel, height, width] in [0, 1] under one corruption. Image i has a stream of its own, so that the
    result does not depend on the other images."""
    places = list(CORRUPTIONS)
    out = []
    for index, image in enumerate(images.cpu().numpy()):
        stream = np.random.default_rng([seed, places.index(name), severity, index])
        changed = CORRUPTIONS[name](np.moveaxis(image, 0, -1).astype(np.float64), severity, stream)
        out.append(np.moveaxis(changed.clip(0, 1), -1, 0))
    return torch.from_numpy(np.stack(out).astype(np.float32)).to(images)


def _scale(image: np.ndarray) -> float:
    return min(image.shape[:2]) / 32


def gaussian_noise(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Noise of the sensor in little light."""
    return image + stream.normal(0, (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1], image.shape)


def shot_noise(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Noise of counted photons."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return stream.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Single values that are black or white."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    chosen = stream.random(image.shape)
    return np.where(chosen < share / 2, 0.0, np.where(chosen < share, 1.0, image))


def defocus_blur(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """A lens out of focus: each point becomes a disk, whose edge is smoothed."""
    radius, smooth = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    radius, smooth = radius * _scale(image), smooth * _scale(image)
    reach = np.arange(-int(np.ceil(radius + 3 * smooth)) - 1, int(np.ceil(radius + 3 * smooth)) + 2)
    disk = (radius + 0.5 - np.hypot(reach[:, None], reach[None])).clip(0, 1)  # a pixel at the edge counts in part
    kernel = scipy.ndimage.gaussian_filter(disk / disk.sum(), smooth)
    return np.stack([_convolved(channel, kernel) for channel in np.moveaxis(image, -1, 0)], -1)


def _convolved(channel: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    reach = kernel.shape[0] // 2
    padded = np.pad(channel, reach, mode="symmetric")
    return np.asarray(scipy.signal.fftconvolve(padded, kernel, mode="valid"))


def glass_blur(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Seen through frosted glass: neighbouring pixels are exchanged."""
    sigma, reach, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    sigma, reach = sigma * _scale(image), max(round(reach * _scale(image)), 1)
    out = scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0))
    rows, columns = np.indices(out.shape[:2])
    for _ in range(rounds):
        moves = stream.integers(-reach, reach + 1, (2, *out.shape[:2]))
        out = out[(rows + moves[0]).clip(0, out.shape[0] - 1), (columns + moves[1]).clip(0, out.shape[1] - 1)]
    return np.asarray(scipy.ndimage.gaussian_filter(out, (sigma, sigma, 0)))


def motion_blur(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """A camera that moves: pixels along a line are averaged, with Gaussian weights."""
    length, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    return _moved(image, length * _scale(image), sigma * _scale(image), stream.uniform(-45, 45))


def _moved(image: np.ndarray, length: float, sigma: float, degrees: float) -> np.ndarray:
    steps = np.arange(max(round(length), 1) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    angle = np.deg2rad(degrees)
    parts = [
        weight * scipy.ndimage.shift(image, (step * np.sin(angle), step * np.cos(angle), 0), order=1, mode="nearest")
        for step, weight in zip(steps, weights / weights.sum(), strict=True)
    ]
    return np.asarray(np.sum(parts, axis=0))


def zoom_blur(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """A camera that moves towards its object: the mean of enlarged images."""
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    return np.asarray((image + sum(_enlarged(image, factor) for factor in factors)) / (len(factors) + 1))


def _enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    """The centre of an image, enlarged to its whole size."""
    height, width = image.shape[:2]
    centre = (np.array([height, width, 0]) - 1) / 2 * [1, 1, 0]
    matrix = np.array([1 / factor, 1 / factor, 1])
    return np.asarray(scipy.ndimage.affine_transform(image, matrix, centre - matrix * centre, order=1, mode="nearest"))


def fractal(side: int, decay: float, stream: np.random.Generator) -> np.ndarray:
    """A cloud [side, side] in [0, 1]: noise at all scales, each half as large and weaker by the factor `decay`."""
    total, strength, cells = np.zeros((side, side)), 1.0, 2
    while cells <= side:
        coarse = stream.random((cells, cells))
        total += strength * scipy.ndimage.zoom(coarse, side / cells, order=1, mode="nearest", grid_mode=True)
        strength, cells = strength / decay, cells * 2
    return np.asarray((total - total.min()) / max(float(np.ptp(total)), 1e-12))


def _cloud(image: np.ndarray, decay: float, stream: np.random.Generator) -> np.ndarray:
    """A fractal of the size of an image, with one channel."""
    side = 2 ** int(np.ceil(np.log2(max(image.shape[:2]))))
    return fractal(side, decay, stream)[: image.shape[0], : image.shape[1], None]


def fog(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """A bright cloud before the object."""
    strength, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    brightest = image.max()
    return np.asarray((image + strength * _cloud(image, decay, stream)) * brightest / (brightest + strength))


def frost(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Ice crystals on the lens. Ours are the ridges of a fractal; the authors use photographs of frost."""
    own, ice = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    ridges = 1 - 2 * np.abs(_cloud(image, 1.5, stream) - 0.5)
    return np.asarray(own * image + ice * ridges**2)


def snow(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Flakes that fall, and an image that is whiter."""
    mean, deviation, size, threshold, length, sigma, own = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]  # fmt: skip
    flakes = _enlarged(stream.normal(mean, deviation, (*image.shape[:2], 1)), float(size))
    flakes = np.where(flakes < threshold, 0.0, flakes).clip(0, 1)
    falling = _moved(flakes, length * _scale(image), sigma * _scale(image), stream.uniform(45, 135))
    grey = image.mean(2, keepdims=True)
    whiter = own * image + (1 - own) * np.maximum(image, grey * 1.5 + 0.5)
    return np.asarray(whiter + falling + np.rot90(falling, 2))


def brightness(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """More light."""
    return image + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]


def contrast(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Values nearer to the mean of the image."""
    mean = image.mean((0, 1), keepdims=True)
    return np.asarray((image - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean)


def elastic_transform(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Small regions that are stretched. Displacements are smoothed noise, in pixels."""
    reach, sigma = ((0.4, 2.5), (0.7, 2.5), (1.0, 2.2), (1.2, 1.8), (1.6, 1.6))[severity - 1]
    reach, sigma = reach * _scale(image), sigma * _scale(image)
    moves = scipy.ndimage.gaussian_filter(
        stream.uniform(-1, 1, (2, *image.shape[:2])), (0, sigma, sigma), mode="reflect"
    )
    moves *= reach / max(float(moves.std()), 1e-12)
    places = np.indices(image.shape[:2]) + moves
    channels = [
        scipy.ndimage.map_coordinates(each, places, order=1, mode="reflect") for each in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, -1)


def pixelate(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """A smaller image, enlarged again."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    picture = _as_picture(image)
    size = (max(int(picture.width * share), 1), max(int(picture.height * share), 1))
    small = picture.resize(size, Image.Resampling.BOX)
    return _as_array(small.resize(picture.size, Image.Resampling.NEAREST), image)


def jpeg_compression(image: np.ndarray, severity: int, stream: np.random.Generator) -> np.ndarray:
    """Compressed by JPEG."""
    buffer = io.BytesIO()
    _as_picture(image).save(buffer, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    with Image.open(buffer) as picture:
        return _as_array(picture, image)


def _as_picture(image: np.ndarray) -> Image.Image:
    pixels = (255 * image).round().astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if image.shape[2] == 1 else pixels)


def _as_array(picture: Image.Image, image: np.ndarray) -> np.ndarray:
    return (np.asarray(picture, dtype=np.float64) / 255).reshape(image.shape)


CORRUPTIONS: dict[str, _Corruption] = {
    function.__name__: function
    for function in (
        gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow, frost, fog,
        brightness, contrast, elastic_transform, pixelate, jpeg_compression,
    )
}  # fmt: skip
"""The fifteen corruptions in the order of the paper: noise, blur, weather, digital."""
