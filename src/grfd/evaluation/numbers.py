"""The results of a run folder, computed from its records: accuracy by model, protocol and attack."""

import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from grfd.attacks import ALL_ATTACKS
from grfd.data import DATASETS
from grfd.defenses import DEFENSES, standard
from grfd.errors import UserError
from grfd.evaluation.checks import Check
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.records import Record, read_records, worst_case


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
    return model_titles() | {name: getattr(module, "NARROW_TITLE", module.TITLE) for name, module in DEFENSES.items()}


def data_titles() -> dict[str, str]:
    """Data set → its title."""
    return {name: entry.title for name, entry in DATASETS.items()}


@dataclass(frozen=True)
class Row:
    """One accuracy, in [0, 1]. `attack` "none": clean images; "worst": right under every attack of one threat model."""

    model: str
    protocol: str
    attack: str
    examples: int
    accuracy: float


@dataclass(frozen=True)
class Results:
    """The result of an evaluation: accuracies, in the order of the printed table, and checks for gradient masking."""

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """{"rows": [...], "checks": [...]}: the content of results.json, and of `grfd show --json`."""
        return {"rows": [asdict(row) for row in self.rows], "checks": [asdict(check) for check in self.checks]}

    def to_frame(self) -> Any:
        """The rows as a pandas `DataFrame`, one column for each field of `Row`.

        Raises `UserError` where pandas is not installed.
        """
        try:
            import pandas  # an optional dependency, and slow to import
        except ImportError as error:
            raise UserError(f"to_frame needs pandas: pip install 'grfd[frame]' ({error})") from error
        return pandas.DataFrame([asdict(row) for row in self.rows], columns=[field.name for field in fields(Row)])


def rows(folder: Path) -> list[Row]:
    """All accuracies of a run folder, in the order of the printed table."""
    groups: dict[tuple[str, str], dict[str, Record]] = {}
    for (model, protocol, attack), record in read_records(folder).items():
        if attack in ALL_ATTACKS:  # a record of an unknown attack has no column, so it must not count in "worst" either
            groups.setdefault((model, protocol), {})[attack] = record
    known = [(model, protocol) for protocol in PROTOCOLS for model in model_titles()]
    order = [*known, *(key for key in groups if key not in known)]
    return [row for key in order if key in groups for row in _rows(*key, groups[key])]


def _rows(model: str, protocol: str, group: dict[str, Record]) -> list[Row]:
    longest = max(group.values(), key=len)
    worst = worst_case([group[attack] for attack in of_one_threat(list(group))])
    ordered = [name for name in column_titles() if name in group]
    return [
        Row(model, protocol, "none", len(longest), float(longest.clean.mean())),
        *(Row(model, protocol, name, len(group[name]), float(group[name].robust.mean())) for name in ordered),
        Row(model, protocol, "worst", len(worst), float(worst.mean())),
    ]


def of_one_threat(attacks: list[str]) -> list[str]:
    """The attacks that share a worst case: those in L∞ or, if there are none, those of the first one's threat model.

    Budgets of different threat models cannot be compared.
    """
    threats = {name: ALL_ATTACKS[name].threat for name in attacks}
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
    return [name for name in column_titles() if any(row.attack == name for row in numbers)]


def usual(cells: dict[str, Row]) -> int:
    """The most frequent number of images in a line."""
    return statistics.mode(row.examples for row in cells.values())
