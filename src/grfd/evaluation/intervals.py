"""Intervals of accuracies."""

import math


def wilson(right: int, examples: int) -> tuple[float, float]:
    """The 95 % interval of a share, `right` of `examples` (Wilson 1927)."""
    z = 1.959964
    share = right / examples
    centre = (share + z * z / (2 * examples)) / (1 + z * z / examples)
    half = z / (1 + z * z / examples) * math.sqrt(share * (1 - share) / examples + z * z / (4 * examples**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
