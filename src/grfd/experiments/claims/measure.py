"""What the committed records say of a claim: a number for each image of each seed, under one protocol.

The number is the share of attacks under which an image is classified correctly, or the difference of two models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation.case import CONTROL, SOURCE
from grfd.evaluation.numbers import model_titles
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.results import Row
from grfd.evaluation.spread import Grid
from grfd.evaluation.stored import read_checks
from grfd.experiments.paper import TABLE_2, TABLE_3
from grfd.experiments.table2 import changes_of_row
from grfd.experiments.variant_records import VariantRecords, find_variant

_OURS = "grfd"
LEAST_IMAGES = 100
"""A rival that was judged on fewer images is not compared here."""

Columns = list[np.ndarray]
"""For each seed, a number for each image."""


@dataclass(frozen=True)
class ClaimNumbers:
    """The numbers of a claim, and with what they were compared, such as "no defense, 68.3 %"."""

    columns: Columns
    against: str = ""


Column = Callable[[dict[str, Row]], np.ndarray | None]
"""The rows of a model under a protocol → a number for each image; None if it was not measured."""


def clean(cells: dict[str, Row]) -> np.ndarray | None:
    """Whether each image is right without an attack."""
    right = cells["none"].right if "none" in cells else None
    return None if right is None else right.astype(float)


def average(cells: dict[str, Row]) -> np.ndarray | None:
    """The share of the five attacks of Table 1 under which each image is right; None unless all were run."""
    arrays = [cells[name].right for name in TABLE_1_ATTACKS if name in cells]
    known = [array for array in arrays if array is not None]
    if len(known) < len(TABLE_1_ATTACKS):
        return None
    shared = min(map(len, known))
    mean: np.ndarray = np.mean([array[:shared] for array in known], axis=0)
    return mean


def of_model(grids: Sequence[Grid], protocol: Protocol, model: str, column: Column) -> Columns:
    """The numbers of a model, for each seed that has them."""
    found = [column(each.get((protocol, model), {})) for each in grids]
    return [each for each in found if each is not None]


def difference(
    grids: Sequence[Grid], protocol: Protocol, models: tuple[str, str], column: Column
) -> ClaimNumbers | None:
    """The first model less the second, on the images of both, for each seed that has both."""
    pairs = []
    for each in grids:
        one, other = (column(each.get((protocol, model), {})) for model in models)
        if one is not None and other is not None:
            shared = min(len(one), len(other))
            pairs.append(one[:shared] - other[:shared])
    return ClaimNumbers(pairs) if pairs else None


def kept(records: VariantRecords, protocol: Protocol) -> ClaimNumbers | None:
    """What GRFD keeps on average over the five attacks."""
    columns = of_model(records.grids, protocol, _OURS, average)
    return ClaimNumbers(columns) if columns else None


def above_none(records: VariantRecords, protocol: Protocol, *, column: Column) -> ClaimNumbers | None:
    """GRFD less the undefended network: under `transfer`, whose examples are made on the first, less the second."""
    return _above_none(records.grids, protocol, _OURS, column)


def above_best(records: VariantRecords, protocol: Protocol, *, column: Column) -> ClaimNumbers | None:
    """GRFD less the rival of the paper that keeps most, of those that no masking check flags, on the images of both."""
    flagged = {check.model for folder in records.folders for check in read_checks(folder) if check.flagged}
    rivals = [name for name in TABLE_3["mnist"] if name not in (_OURS, SOURCE) and name not in flagged]
    found = {name: difference(records.grids, protocol, (_OURS, name), column) for name in rivals}
    known = {name: each for name, each in found.items() if each and len(each.columns[0]) >= LEAST_IMAGES}
    if not known:
        return None
    best = min(known, key=lambda name: _mean(known[name].columns))
    return replace(known[best], against=model_titles()[best])


def above_variant(
    records: VariantRecords, protocol: Protocol, *, changes: dict[str, Any], column: Column
) -> ClaimNumbers | None:
    """GRFD with the weights that the paper chooses, less a variant that is named by what it changes."""
    chosen, other = find_variant(records, {}), find_variant(records, changes)
    return difference(records.grids, protocol, (chosen, other), column) if chosen and other else None


def variant_less_whole(
    records: VariantRecords, protocol: Protocol, *, changes: dict[str, Any], column: Column
) -> ClaimNumbers | None:
    """A variant, named by what it changes, less GRFD with the weights and images that the paper chooses."""
    less = above_variant(records, protocol, changes=changes, column=column)
    return less and ClaimNumbers([-each for each in less.columns])


def variant_above_none(
    records: VariantRecords, protocol: Protocol, *, changes: dict[str, Any], column: Column
) -> ClaimNumbers | None:
    """A variant of GRFD less the undefended network."""
    name = find_variant(records, changes)
    return _above_none(records.grids, protocol, name, column) if name else None


def above_all_rows(records: VariantRecords, protocol: Protocol, *, column: Column) -> ClaimNumbers | None:
    """The chosen row of Table 2 less the best of the other ten."""
    rows = {weights: changes_of_row(*weights) for weights in TABLE_2}
    compare = partial(above_variant, records, protocol, column=column)
    found = {weights: compare(changes=changes) for weights, changes in rows.items() if changes}
    known = {weights: each for weights, each in found.items() if each}
    if len(known) < len(found):
        return None
    best = min(known, key=lambda weights: _mean(known[weights].columns))
    return replace(known[best], against="the row " + ", ".join(f"{each:g}" for each in best))


def _above_none(grids: Sequence[Grid], protocol: Protocol, model: str, column: Column) -> ClaimNumbers | None:
    undefended = CONTROL if protocol == "transfer" else SOURCE
    found = difference(grids, protocol, (model, undefended), column)
    theirs = of_model(grids, protocol, undefended, column)
    return found and replace(found, against=f"no defense, which keeps {100 * _mean(theirs):.1f}")


def _mean(columns: Columns) -> float:
    return float(np.mean([each.mean() for each in columns]))
