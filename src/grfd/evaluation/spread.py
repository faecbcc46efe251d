"""Results over seeds: mean ± standard deviation."""

import statistics
from collections.abc import Sequence

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


def spread(numbers: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation. A single number is printed alone; a dash stands for no numbers."""
    if not numbers:
        return "–"
    mean = f"{statistics.mean(numbers):.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.{digits}f}"
