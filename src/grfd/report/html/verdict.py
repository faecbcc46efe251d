"""The verdict on a run in one sentence: how accurate its strongest defense is in the worst case, with the interval."""

from collections.abc import Sequence

import numpy as np

from grfd.attacks.budgets import USUAL_EPS, Ball
from grfd.defenses import standard
from grfd.evaluation.numbers import model_titles
from grfd.evaluation.paired import Paired
from grfd.evaluation.protocols import COMPARED
from grfd.evaluation.results import Check, Row

WITHOUT_DEFENSE = (standard.NAME, standard.SECOND)
"""The models of a run that no defense protects."""


def title_of(model: str) -> str:
    """The title of a model; a user's own has its name."""
    return model_titles().get(model, model)


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


def threat_text(row: Row) -> str:
    """The threat model of a row, in words."""
    if row.norm is None:
        return "the budgets of the paper's Table 1"
    return str(Ball(row.norm, row.eps or 0.0))  # type: ignore[arg-type]


def accuracy_text(row: Row) -> str:
    """The accuracy with its 95 % interval, in per cent."""
    low, high = row.interval
    return f"{100 * row.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def verdict_of(rows: Sequence[Row], checks: Sequence[Check]) -> str:
    """The verdict on a run: one sentence on its best defense, compared with the undefended model on the same images."""
    lines = headline_rows(rows)
    if not lines:
        return "This run was judged only under the protocol residual or towards targets, so there is no worst case."
    defended = [row for row in lines if row.model not in WITHOUT_DEFENSE]
    best = max(defended or lines, key=lambda row: row.accuracy)
    which = "" if len(defended) < 2 else f"The strongest of {len(defended)} defenses: "
    text = (
        f"{which}{title_of(best.model)} classifies {accuracy_text(best)} of {best.examples:,} test images correctly "
        f"under every attack that was run (protocol {best.protocol}, {threat_text(best)})"
    )
    return text + _beside_standard(best, lines) + _doubt(best.model, checks)


def _beside_standard(best: Row, lines: Sequence[Row]) -> str:
    plain = next((row for row in lines if row.model == standard.NAME and row.protocol == best.protocol), None)
    if plain is None or plain.model == best.model:
        return ""
    if best.right is None or plain.right is None:
        return f"; without a defense it is {100 * plain.accuracy:.1f} %"
    pair = paired_rows(best, plain)
    low, high = pair.interval
    word = "more" if pair.difference >= 0 else "less"
    interval = f"95 % interval of the difference {low:+.1f} to {high:+.1f}"
    return f", {abs(pair.difference):.1f} points {word} than without a defense ({interval})"


def paired_rows(first: Row, second: Row) -> Paired:
    """Two worst cases on the images that both have."""
    assert first.right is not None
    assert second.right is not None
    shared = min(len(first.right), len(second.right))
    return Paired([first.right[:shared].astype(np.int64) - second.right[:shared].astype(np.int64)])


def _doubt(model: str, checks: Sequence[Check]) -> str:
    raised = sum(check.flagged for check in checks if check.model == model)
    if not raised:
        return "."
    checks_text = (
        "A check for gradient masking raises" if raised == 1 else f"{raised} checks for gradient masking raise"
    )
    return f". {checks_text} a flag on it, so the accuracy may be overestimated."
