"""Numbers over seeds: mean ± standard deviation."""

import statistics
from collections.abc import Sequence

from grfd.evaluation.numbers import Row

Grid = dict[tuple[str, str], dict[str, Row]]
"""(protocol, model) → attack → number, of one seed."""


def values(grids: Sequence[Grid], protocol: str, model: str, attack: str) -> list[float]:
    """In per cent, a value a seed that has it. "none" is clean accuracy, "worst" the worst case."""
    found = [each.get((protocol, model), {}).get(attack) for each in grids]
    return [100 * row.accuracy for row in found if row is not None]


def averages(grids: Sequence[Grid], protocol: str, model: str, attacks: Sequence[str]) -> list[float]:
    """In per cent, a seed's mean over the attacks; of seeds that have all of them."""
    columns = [values(grids, protocol, model, attack) for attack in attacks]
    return [statistics.mean(each) for each in zip(*columns, strict=True)]


def spread(found: Sequence[float], digits: int = 1) -> str:
    """Mean ± standard deviation; the value alone where there is one, a dash where there is none."""
    if not found:
        return "–"
    told = f"{statistics.mean(found):.{digits}f}"
    return told if len(found) == 1 else f"{told} ± {statistics.stdev(found):.{digits}f}"
