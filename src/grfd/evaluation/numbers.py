"""The results of a run folder, computed from its records: accuracy by model, protocol and attack."""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from grfd.attacks import ALL_ATTACKS
from grfd.data import DATASETS
from grfd.defenses import DEFENSES, standard
from grfd.errors import UserError
from grfd.evaluation.checks import Check
from grfd.evaluation.distances import Distance
from grfd.evaluation.intervals import wilson
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.records import RECORDS, Record, read_records, worst_case


def column_titles() -> dict[str, str]:
    """Column → its title, in the order of a table: clean accuracy, the attacks of the registry, the worst case."""
    attacks = {name: entry.title for name, entry in ALL_ATTACKS.items()}
    return {"none": "clean", **attacks, "worst": "worst case"}


def narrow_titles() -> dict[str, str]:
    """The same, broken into lines where a table would not fit 80 columns otherwise."""
    broken = {name: entry.narrow_title for name, entry in ALL_ATTACKS.items() if entry.narrow_title}
    return column_titles() | broken | {"worst": "worst\ncase"}


def model_titles() -> dict[str, str]:
    """Model → its title, in the order of a table: the standard models, then the defenses of the registry."""
    defenses = {name: module.TITLE for name, module in DEFENSES.items()}
    return {standard.NAME: standard.TITLE, standard.SECOND: standard.SECOND_TITLE, **defenses}


def narrow_model_titles() -> dict[str, str]:
    """The same, broken into lines where a table would not fit 80 columns otherwise."""
    narrow = {name: getattr(module, "NARROW_TITLE", module.TITLE) for name, module in DEFENSES.items()}
    return model_titles() | narrow | {standard.SECOND: standard.NARROW_SECOND_TITLE}


def data_titles() -> dict[str, str]:
    """Data set → its title."""
    return {name: entry.title for name, entry in DATASETS.items()}


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

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(round(self.accuracy * self.examples), self.examples)


@dataclass(frozen=True)
class Results:
    """The result of an evaluation: accuracies, in the order of the printed table, and checks for gradient masking.

    `distances`: one line for each minimal-norm attack that was run without a bound.
    """

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    distances: tuple[Distance, ...] = ()

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """{"rows": [...], "checks": [...], "distances": [...]}: the content of results.json and `grfd show --json`.

        Each row also has `low` and `high`, the 95 % interval of its accuracy.
        """
        return {
            "rows": [as_plain(row) for row in self.rows],
            "checks": [asdict(check) for check in self.checks],
            "distances": [asdict(distance) for distance in self.distances],
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


_ROW_FIELDS = [field.name for field in fields(Row)]


def as_plain(row: Row) -> dict[str, Any]:
    """The fields of a row and the ends of its interval."""
    low, high = row.interval
    return asdict(row) | {"low": low, "high": high}


Groups = dict[tuple[str, str], dict[str, Record]]
"""(model, protocol) → attack → record."""


def rows(folder: Path) -> list[Row]:
    """All accuracies of a run folder under the budgets of the registry, in the order of the printed table."""
    groups = groups_of(folder, RECORDS)
    return [row for key, group in groups.items() for row in rows_of_line(*key, group, of_one_threat(list(group)))]


def groups_of(folder: Path, root: str) -> Groups:
    """The records of one threat model, in the order of the printed table."""
    groups: Groups = {}
    for (model, protocol, attack), record in read_records(folder, root=root).items():
        if attack in ALL_ATTACKS or ":" in attack:  # what has no column must not count in the worst case either
            groups.setdefault((model, protocol), {})[attack] = record
    known = [(model, protocol) for protocol in PROTOCOLS for model in model_titles()]
    order = [*known, *(key for key in groups if key not in known)]
    return {key: groups[key] for key in order if key in groups}


def rows_of_line(model: str, protocol: str, group: dict[str, Record], shared: list[str]) -> list[Row]:
    """The rows of a model under a protocol. `shared`: the attacks that count in the worst case."""
    longest = max(group.values(), key=len)
    worst = worst_case([group[attack] for attack in shared])
    return [
        Row(model, protocol, "none", len(longest), float(longest.clean.mean())),
        *(_row(model, protocol, name, group[name]) for name in in_order(group)),
        Row(model, protocol, "worst", len(worst), float(worst.mean())),
    ]


def _row(model: str, protocol: str, name: str, record: Record) -> Row:
    rounded = None
    if "rounded_prediction" in record.columns:
        rounded = float((record.clean & (record.columns["rounded_prediction"] == record.columns["label"])).mean())
    return Row(model, protocol, name, len(record), float(record.robust.mean()), rounded=rounded)


def in_order(names: Iterable[str]) -> list[str]:
    """The attacks among `names` in the order of columns: those of the registry, then a user's own."""
    names = list(names)
    return [name for name in ALL_ATTACKS if name in names] + sorted(name for name in names if ":" in name)


def of_one_threat(attacks: list[str]) -> list[str]:
    """The attacks that share a worst case: those in L∞ or, if there are none, those of the first one's threat model.

    Budgets of different threat models cannot be compared.
    """
    threats = {name: "linf" if ":" in name else ALL_ATTACKS[name].threat for name in attacks}
    shared = "linf" if "linf" in threats.values() else threats[attacks[0]]
    return [name for name in attacks if threats[name] == shared]


def grid(numbers: list[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """(protocol, model) → attack → row."""
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in numbers:
        lines.setdefault((row.protocol, row.model), {})[row.attack] = row
    return lines


def columns(numbers: list[Row]) -> list[str]:
    """The attacks that occur, in the order of the registry, between "none" and "worst"."""
    present = {row.attack for row in numbers}
    return [name for name in ("none", *in_order(present), "worst") if name in present]


def usual(cells: dict[str, Row]) -> int:
    """The most frequent number of images in a line."""
    return statistics.mode(row.examples for row in cells.values())
