"""What randomized smoothing certifies, and what an attack leaves, from certified.npz of a run folder."""

from pathlib import Path

import numpy as np

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Euclidean radii at which it is attacked and printed, in pixels of [0, 1]."""


def certified_accuracy(folder: Path) -> tuple[dict[float, float], dict[float, float]]:
    """Radius → the share of images whose right answer is certified to hold within it, and that an attack leaves right.

    Certified at all radii that occur; attacked at `RADII`.
    """
    with np.load(folder / "certified.npz", allow_pickle=False) as stored:
        radius = np.where(stored["prediction"] == stored["label"], stored["radius"], -1.0)
        held = dict(zip(RADII, stored["held"].mean(1).tolist(), strict=True))
    at = np.unique(np.concatenate([RADII, radius[radius > 0]]))
    return {float(each): float((radius >= each).mean()) for each in at}, held
