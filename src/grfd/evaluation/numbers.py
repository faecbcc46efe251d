"""The results of a run folder, computed from its records: accuracy by model, protocol and attack."""

import statistics
from collections.abc import Iterable
from pathlib import Path

from grfd.attacks import ALL_ATTACKS
from grfd.data import DATASETS
from grfd.defenses import DEFENSES, standard
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.records import RECORDS, Record, lowest_worst_case, read_records
from grfd.evaluation.results import Row


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
    worst = lowest_worst_case([group[attack] for attack in shared])
    return [
        Row(model, protocol, "none", len(longest), float(longest.clean.mean()), right=longest.clean),
        *(_row(model, protocol, name, group[name]) for name in in_order(group)),
        Row(model, protocol, "worst", len(worst), float(worst.mean()), right=worst),
    ]


def _row(model: str, protocol: str, name: str, record: Record) -> Row:
    rounded = None
    if "rounded_prediction" in record.columns:
        rounded = float((record.clean & (record.columns["rounded_prediction"] == record.columns["label"])).mean())
    return Row(model, protocol, name, len(record), float(record.robust.mean()), rounded=rounded, right=record.robust)


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


def counted(worst: Row, line: Iterable[Row]) -> list[str]:
    """The attacks of a line that its worst case counts: they met all its images and share its threat model."""
    met = [row.attack for row in line if row.attack not in ("none", "worst") and row.examples >= worst.examples]
    return of_one_threat(met) if met and worst.norm is None else met


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
