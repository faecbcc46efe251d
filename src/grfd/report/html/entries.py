"""The models of a report as they are compared: each under the strongest protocol that was run on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grfd.attacks.budgets import USUAL_EPS, Ball
from grfd.evaluation.numbers import column_titles, model_titles, of_one_threat
from grfd.evaluation.paired import Paired
from grfd.evaluation.protocols import COMPARED
from grfd.evaluation.results import Results, Row


@dataclass(frozen=True)
class Entry:
    """A model of a run with its worst case, its clean accuracy, and the attacks that count in the worst case."""

    run: str
    worst: Row
    clean: Row | None
    attacks: dict[str, Row]
    flags: int

    @property
    def rank(self) -> tuple[int, float]:
        """What orders entries: the strength of the protocol, then the accuracy in the worst case."""
        return COMPARED.index(self.worst.protocol), self.worst.accuracy

    @property
    def attack_titles(self) -> str:
        return ", ".join(column_titles().get(name, name) for name in self.attacks)


def title_of(model: str) -> str:
    """The title of a model; a user's own has its name."""
    return model_titles().get(model, model)


def threat_text(row: Row) -> str:
    """The threat model of a row, in words."""
    if row.norm is None:
        return "budgets of Table 1"
    return str(Ball(row.norm, row.eps or 0.0))  # type: ignore[arg-type]


def headline_rows(rows: Sequence[Row]) -> list[Row]:
    """The worst cases that count, one for each model: under the strongest protocol that was run on it.

    They are of Table 1's budgets or, if those were not run, of the first norm's usual ε or the one nearest to it.
    """
    worst = [row for row in rows if row.attack == "worst" and row.target is None and row.protocol in COMPARED]
    chosen = [row for row in worst if row.norm is None] or _at_usual_eps(worst)
    strongest: dict[str, Row] = {}
    for row in sorted(chosen, key=lambda row: COMPARED.index(row.protocol)):
        strongest[row.model] = row
    return [strongest[model] for model in dict.fromkeys(row.model for row in chosen)]


def _at_usual_eps(worst: Sequence[Row]) -> list[Row]:
    if not worst:
        return []
    norm = worst[0].norm or "linf"
    mine = [row for row in worst if row.norm == norm and row.eps is not None]
    usual = USUAL_EPS[norm][0]
    nearest = min((row.eps or 0.0 for row in mine), key=lambda eps: abs(eps - usual))
    return [row for row in mine if row.eps == nearest]


def entries_of(run: str, results: Results) -> list[Entry]:
    """The models of a run."""
    entries = []
    for worst in headline_rows(results.rows):
        line = {row.attack: row for row in results.rows if row.target is None and _kind(row) == _kind(worst)}
        names = [name for name in line if name not in ("none", "worst")]
        counted = of_one_threat(names) if worst.norm is None else names
        raised = sum(check.flagged for check in results.checks if check.model == worst.model)
        entries.append(Entry(run, worst, line.get("none"), {name: line[name] for name in counted}, raised))
    return entries


def _kind(row: Row) -> tuple[str, str, str | None, float | None]:
    return row.model, row.protocol, row.norm, row.eps


def paired_entries(first: Entry, second: Entry) -> Paired | None:
    """Two models on the images that both have, under the attacks that were run on both. None if there are none.

    Their protocol and threat model must be the same, because a weaker attacker leaves more images right.
    """
    if _kind(first.worst)[1:] != _kind(second.worst)[1:]:
        return None
    names = [name for name in first.attacks if name in second.attacks]
    arrays = [[each.attacks[name].right for name in names] for each in (first, second)]
    known = [[right for right in each if right is not None] for each in arrays]
    if not names or any(len(each) < len(names) for each in known):
        return None
    shared = min(len(right) for each in known for right in each)
    mine, theirs = (np.logical_and.reduce([right[:shared] for right in each]) for each in known)
    return Paired([mine.astype(np.int64) - theirs.astype(np.int64)])
