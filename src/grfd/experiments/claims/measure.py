"""What the committed records say of a claim: a number for each image of each seed, under one protocol.

The number is the share of attacks under which an image is classified correctly, or the difference of two models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation.case import CONTROL, SOURCE
from grfd.evaluation.numbers import model_titles
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.results import Row
from grfd.evaluation.spread import Grid
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
    """The numbers of a claim; the title of the model with which GRFD was compared, and its name if it is a rival."""

    columns: Columns
    note: str = ""
    rival: str = ""


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
    return difference(records.grids, protocol, (_OURS, _undefended(protocol)), column)


def above_best(records: VariantRecords, protocol: Protocol) -> ClaimNumbers | None:
    """GRFD less the rival of the paper that keeps most on average over the five attacks."""
    grids = records.grids
    found = {name: of_model(grids, protocol, name, average) for name in TABLE_3["mnist"] if name not in (_OURS, SOURCE)}
    known = {name: columns for name, columns in found.items() if columns and len(columns[0]) >= LEAST_IMAGES}
    if not known:
        return None
    best = max(known, key=lambda name: _mean(known[name]))
    compared = difference(grids, protocol, (_OURS, best), average)
    return compared and ClaimNumbers(compared.columns, model_titles()[best], best)


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
    return difference(records.grids, protocol, (name, _undefended(protocol)), column) if name else None


def above_all_rows(records: VariantRecords, protocol: Protocol) -> ClaimNumbers | None:
    """The chosen row of Table 2 less the best of the other ten, on average over the five attacks."""
    rows = {weights: changes_of_row(*weights) for weights in TABLE_2}
    compare = partial(above_variant, records, protocol, column=average)
    found = {weights: compare(changes=changes) for weights, changes in rows.items() if changes}
    known = {weights: each for weights, each in found.items() if each}
    if len(known) < len(found):
        return None
    best = min(known, key=lambda weights: _mean(known[weights].columns))
    return ClaimNumbers(known[best].columns, "the row " + ", ".join(f"{each:g}" for each in best))


def _undefended(protocol: Protocol) -> str:
    return CONTROL if protocol == "transfer" else SOURCE


def _mean(columns: Columns) -> float:
    return float(np.mean([each.mean() for each in columns]))
