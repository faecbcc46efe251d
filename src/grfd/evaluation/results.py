"""What an evaluation results in, as plain records: accuracies, distances, and checks for gradient masking."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from grfd.errors import UserError
from grfd.evaluation.intervals import wilson


@dataclass(frozen=True)
class Row:
    """One accuracy, in [0, 1]. `attack` "none": clean images; "worst": right under every attack of one threat model.

    `norm` and `eps`: the threat model, in pixels of [0, 1]; both None: the budgets of the registry, those of Table 1.
    `target`: the class that images should be mistaken for; `success`: the share of those of other classes that are.
    `rounded`: the accuracy if the adversarial images are rounded to 8 bits; None if no images are kept.
    """

    model: str
    protocol: str
    attack: str
    examples: int
    accuracy: float
    norm: str | None = None
    eps: float | None = None
    target: str | None = None
    success: float | None = None
    rounded: float | None = None
    right: np.ndarray | None = field(default=None, compare=False, repr=False)
    """Whether each image is right; None for a row that was read from results.json."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(self.accuracy * self.examples, self.examples)


@dataclass(frozen=True)
class Distance:
    """The smallest perturbations that a minimal-norm attack found for the images that are classified correctly.

    `examples`: their number; `found`: how many it fooled. Quartiles are over all of them, in pixels of [0, 1]; None
    where too few were fooled to know the quartile.
    """

    model: str
    protocol: str
    attack: str
    norm: str
    examples: int
    found: int
    lower_quartile: float | None
    median: float | None
    upper_quartile: float | None


@dataclass(frozen=True)
class CorruptionRow:
    """The accuracy of a model, in [0, 1], on the first `examples` images under one corruption. `severity`: 1 to 5."""

    model: str
    corruption: str
    severity: int
    examples: int
    accuracy: float


@dataclass(frozen=True)
class Check:
    """The result of one check of one model. `detail`: the measured numbers, in words."""

    model: str
    name: str
    flagged: bool
    detail: str


@dataclass(frozen=True)
class Results:
    """The result of an evaluation: accuracies, in the order of the printed table, and checks for gradient masking.

    `distances`: one line for each minimal-norm attack that was run without a bound. `corruptions`: accuracy without an
    attacker, if it was asked for.
    """

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    distances: tuple[Distance, ...] = ()
    corruptions: tuple[CorruptionRow, ...] = ()

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """The content of results.json and `grfd show --json`: lists of rows, checks, distances and corruptions.

        Each row also has `low` and `high`, the 95 % interval of its accuracy.
        """
        return {
            "rows": [as_plain(row) for row in self.rows],
            "checks": [asdict(check) for check in self.checks],
            "distances": [asdict(distance) for distance in self.distances],
            "corruptions": [asdict(row) for row in self.corruptions],
        }

    def to_frame(self) -> Any:
        """The rows as a pandas `DataFrame`, one column for each field of `Row`.

        Raises `UserError` where pandas is not installed.
        """
        try:
            import pandas  # an optional dependency, and slow to import
        except ImportError as error:
            raise UserError(f"to_frame needs pandas: pip install 'grfd[frame]' ({error})") from error
        return pandas.DataFrame([as_plain(row) for row in self.rows], columns=[*_ROW_FIELDS, "low", "high"])


_ROW_FIELDS = [each.name for each in fields(Row) if each.name != "right"]


def as_plain(row: Row) -> dict[str, Any]:
    """The fields of a row and the ends of its interval."""
    low, high = row.interval
    return {name: getattr(row, name) for name in _ROW_FIELDS} | {"low": round(low, 6), "high": round(high, 6)}
