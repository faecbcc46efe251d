"""The verdict on a run in one sentence: how accurate its strongest defense is in the worst case, with the interval."""

from collections.abc import Sequence

from grfd.defenses import standard
from grfd.evaluation.results import Results, Row
from grfd.report.html.entries import Entry, entries_of, paired_entries, threat_text, title_of

WITHOUT_DEFENSE = (standard.NAME, standard.SECOND)
"""The models of a run that no defense protects."""


def accuracy_text(row: Row) -> str:
    """The accuracy with its 95 % interval, in per cent."""
    low, high = row.interval
    return f"{100 * row.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def verdict_of(results: Results) -> str:
    """The verdict on a run: one sentence on its best defense, compared with the undefended model on the same images."""
    entries = entries_of("", results)
    if not entries:
        return "This run was judged only under the protocol residual or towards targets, so there is no worst case."
    defended = [entry for entry in entries if entry.worst.model not in WITHOUT_DEFENSE]
    best = max(defended or entries, key=lambda entry: entry.rank)
    which = "" if len(defended) < 2 else f"The strongest of {len(defended)} defenses: "
    text = (
        f"{which}{title_of(best.worst.model)} classifies {accuracy_text(best.worst)} of {best.worst.examples:,} test "
        f"images correctly under every attack that was run ({best.attack_titles}; protocol {best.worst.protocol}, "
        f"{threat_text(best.worst)})"
    )
    return text + _beside_standard(best, entries) + _doubt(best.flags)


def _beside_standard(best: Entry, entries: Sequence[Entry]) -> str:
    plain = next((entry for entry in entries if entry.worst.model == standard.NAME), None)
    pair = paired_entries(best, plain) if plain is not None and plain is not best else None
    if pair is None:
        return ""
    low, high = pair.interval
    word = "more" if pair.difference >= 0 else "less"
    interval = f"95 % interval of the difference {low:+.1f} to {high:+.1f}".replace("-", "−")
    return f", {abs(pair.difference):.1f} points {word} than without a defense ({interval})"


def _doubt(raised: int) -> str:
    if not raised:
        return "."
    checks_text = (
        "A check for gradient masking raises" if raised == 1 else f"{raised} checks for gradient masking raise"
    )
    return f". {checks_text} a flag on it, so the accuracy may be overestimated."
