"""Intervals and tests by image: an image that several seeds have judged is one image, not several.

`columns` has one array for each seed, with a value for each image: 1 where the seed's model is right, 0 where it is
not, or a difference of two models. Seeds are judged on the first images of one split, so that equal places are the same
image; a seed may have fewer images than another.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy

LEVEL = 0.95
"""The coverage of all intervals."""
RESAMPLES = 10_000
_Z = 1.959963984540054
"""The quantile of the normal distribution that belongs to `LEVEL`."""


def wilson(right: float, images: int) -> tuple[float, float]:
    """The 95 % interval of a share, `right` of `images` (Wilson 1927)."""
    share, over = right / images, _Z * _Z / images
    centre = share + over / 2
    half = math.sqrt(share * (1 - share) * over + over * over / 4)
    return max((centre - half) / (1 + over), 0.0), min((centre + half) / (1 + over), 1.0)


def accuracy_interval(columns: Sequence[np.ndarray]) -> tuple[float, float]:
    """The 95 % interval of the mean accuracy over seeds: Wilson's for one seed, otherwise by `bootstrap`."""
    if len(columns) == 1:
        return wilson(float(columns[0].sum()), len(columns[0]))
    low, high = bootstrap(columns)
    if low < high:
        return low, high
    return wilson(low * max(map(len, columns)), max(map(len, columns)))  # all images alike: nothing to resample


def bootstrap(columns: Sequence[np.ndarray]) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over seeds, resampling images. All values of an image stay together.

    Images with the same values are drawn together: their numbers in a resample are multinomial.
    """
    patterns, counts = _patterns(columns)
    seeds = len(columns)
    stream = np.random.default_rng(0)
    drawn = stream.multinomial(counts.sum(), counts / counts.sum(), RESAMPLES)
    totals, sizes = drawn @ patterns[:, :seeds], drawn @ patterns[:, seeds:]
    means = (totals / np.maximum(sizes, 1)).mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _patterns(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of values and of "this seed has this image", and how many images have each."""
    table = np.zeros((max(map(len, columns)), 2 * len(columns)))
    for place, column in enumerate(columns):
        table[: len(column), place] = column
        table[: len(column), len(columns) + place] = 1
    return np.unique(table, axis=0, return_counts=True)


def sign_flip_p_value(columns: Sequence[np.ndarray]) -> float:
    """The probability of a sum of differences at least as large, if each image's difference had either sign.

    `columns`: whole numbers, and equally many images for each seed. All signs of an image flip together. The exact
    distribution is a convolution of binomial ones. For one seed this is McNemar's exact test.
    """
    sums = np.sum(columns, axis=0).round().astype(int)
    distribution = np.ones(1)  # of the sum, from −(len − 1) / 2 to (len − 1) / 2
    for size in range(1, int(np.abs(sums).max(initial=0)) + 1):
        count = int((np.abs(sums) == size).sum())
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = scipy.stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = scipy.signal.fftconvolve(distribution, steps) if count else distribution
    values = np.arange(len(distribution)) - (len(distribution) - 1) // 2
    tail = distribution[np.abs(values) >= abs(int(sums.sum()))].sum()
    return float(min(max(tail, 0.0), 1.0))
