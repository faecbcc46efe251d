"""What randomized smoothing certifies, and what an attack leaves, from certified.npz of a run folder."""

from pathlib import Path

import numpy as np

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The Euclidean radii that are attacked and printed, in pixels of [0, 1]."""


def certified_accuracy(folder: Path) -> tuple[dict[float, float], dict[float, float]]:
    """Radius → the share of images that are certified within it, and the share that an attack of this radius leaves.

    The first is given at all radii that occur, the second at `RADII`. A wrong answer is never certified.
    """
    with np.load(folder / "certified.npz", allow_pickle=False) as stored:
        radius = np.where(stored["prediction"] == stored["label"], stored["radius"], -1.0)
        held = dict(zip(RADII, stored["held"].mean(1).tolist(), strict=True))
    at = np.unique(np.concatenate([RADII, radius[radius > 0]]))
    return {float(each): float((radius >= each).mean()) for each in at}, held


def certified_text(folder: Path) -> str:
    """The per cent that are certified at each of `RADII`, and in brackets the per cent that an attack leaves."""
    certified, held = certified_accuracy(folder)
    return ", ".join(f"{radius:g}: {100 * certified[radius]:.1f} ({100 * held[radius]:.1f})" for radius in RADII)
