"""The distribution of distances that minimal-norm attacks find: how far each image is from being misclassified."""

import math
from pathlib import Path

import numpy as np

from grfd.evaluation.case import task_at
from grfd.evaluation.records import Record, read_records, roots_of
from grfd.evaluation.results import Distance


def distances_of(record: Record) -> np.ndarray:
    """For each image that is classified correctly, the length of its perturbation; infinity if it was not fooled."""
    right = record.clean
    return np.where(record.robust, np.inf, record.columns["norm"])[right]


def distances(folder: Path) -> list[Distance]:
    """One line for each record of a minimal-norm attack without a bound."""
    return [
        _distance((*key, task_at(root, *key).ball.norm), record)  # type: ignore[union-attr]
        for root in roots_of(folder)
        if (ball := task_at(root, "", "", "").ball) is not None and math.isinf(ball.eps)
        for key, record in read_records(folder, root=root).items()
    ]


def _distance(names: tuple[str, str, str, str], record: Record) -> Distance:
    lengths = np.sort(distances_of(record))
    quartiles = [_quantile(lengths, share) for share in (0.25, 0.5, 0.75)]
    return Distance(*names, len(lengths), int(np.isfinite(lengths).sum()), *quartiles)


def _quantile(ordered: np.ndarray, share: float) -> float | None:
    """The smallest distance within which at least this share of the images is fooled."""
    if len(ordered) == 0:
        return None
    value = float(ordered[max(math.ceil(share * len(ordered)) - 1, 0)])
    return value if math.isfinite(value) else None
