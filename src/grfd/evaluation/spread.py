"""Results over seeds: mean ± standard deviation."""

import statistics
from collections.abc import Sequence

import numpy as np

from grfd.evaluation.intervals import accuracy_interval, wilson
from grfd.evaluation.results import Row

Grid = dict[tuple[str, str], dict[str, Row]]
"""(protocol, model) → attack → row, for one seed."""


def values(grids: Sequence[Grid], protocol: str, model: str, attack: str) -> list[float]:
    """Accuracy in per cent, one value for each seed that has it. Attack "none": clean; "worst": worst case."""
    cells = [each.get((protocol, model), {}).get(attack) for each in grids]
    return [100 * row.accuracy for row in cells if row is not None]


def averages(grids: Sequence[Grid], protocol: str, model: str, attacks: Sequence[str]) -> list[float]:
    """Mean accuracy over the attacks in per cent, one value for each seed that has all of them."""
    columns = [values(grids, protocol, model, attack) for attack in attacks]
    return [statistics.mean(each) for each in zip(*columns, strict=True)]


def cell_text(grids: Sequence[Grid], protocol: str, model: str, attack: str) -> str:
    """`values` as mean ± standard deviation over seeds, with the 95 % interval by image."""
    cells = [each.get((protocol, model), {}).get(attack) for each in grids]
    return with_interval_text([right for row in cells if row is not None and (right := row.right) is not None])


def averages_text(grids: Sequence[Grid], protocol: str, model: str, attacks: Sequence[str]) -> str:
    """`averages` as mean ± standard deviation over seeds, with the 95 % interval by image."""
    columns = []
    for each in grids:
        cells = [each.get((protocol, model), {}).get(attack) for attack in attacks]
        arrays = [row.right for row in cells if row is not None and row.right is not None]
        if arrays and len(arrays) == len(attacks):
            shared = min(map(len, arrays))
            columns.append(np.mean([array[:shared] for array in arrays], axis=0))
    return with_interval_text(columns)


def with_interval_text(columns: Sequence[np.ndarray]) -> str:
    """Per cent: mean ± standard deviation over seeds, then the 95 % interval over images, in whole per cent.

    `columns`: for each seed, whether each image is right. A dash stands for no numbers.
    """
    if not columns:
        return "–"
    low, high = accuracy_interval(columns)
    return f"{spread([100 * float(each.mean()) for each in columns])} [{100 * low:.0f}, {100 * high:.0f}]"


def mean_of_shares_text(shares: Sequence[float], images: int) -> str:
    """Per cent: the mean of accuracies in [0, 1] on the same images, then a 95 % interval over images.

    It is Wilson's, as for one accuracy. The mean of several answers to an image varies at most as much as one answer,
    so that the interval is at least as wide as it must be. A dash stands for no numbers.
    """
    if not shares:
        return "–"
    mean = statistics.mean(shares)
    low, high = wilson(mean * images, images)
    return f"{100 * mean:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def spread(numbers: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation. A single number is printed alone; a dash stands for no numbers."""
    if not numbers:
        return "–"
    mean = f"{statistics.mean(numbers):.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.{digits}f}"
