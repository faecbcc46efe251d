"""The tables of a report: accuracies with intervals, distances, the leaderboard of several runs, differences."""

from collections.abc import Sequence
from typing import NamedTuple

from grfd.attacks.budgets import NORM_TITLES
from grfd.evaluation.numbers import column_titles, columns, grid
from grfd.evaluation.paired import probability
from grfd.evaluation.results import Distance, Results, Row
from grfd.report.html.content import HtmlCell, HtmlTable
from grfd.report.html.verdict import headline_rows, paired_rows, threat_text, title_of

MOST_COMPARED = 12
"""Models of a table of differences: 12 of them give 66 pairs."""


class Entry(NamedTuple):
    """A line of the leaderboard: a model of a run with its worst case and its clean accuracy."""

    run: str
    worst: Row
    clean: Row | None
    flags: int


def shown_cell(row: Row | None, name: str = "") -> HtmlCell:
    """An accuracy in per cent; below it its 95 % interval, and the number of images."""
    if row is None:
        return HtmlCell("–")
    low, high = row.interval
    return HtmlCell(f"{100 * row.accuracy:.1f}", f"{100 * low:.0f}–{100 * high:.0f}", name)


def run_tables(results: Results) -> tuple[HtmlTable, ...]:
    """All tables of one run: Table 1's budgets, each chosen threat model, targets, distances and corruptions."""
    tables = []
    plain = [row for row in results.rows if row.target is None]
    for norm, eps in dict.fromkeys((row.norm, row.eps) for row in plain):
        mine = [row for row in plain if (row.norm, row.eps) == (norm, eps)]
        tables.append(accuracy_table(mine))
    targeted = [row for row in results.rows if row.target is not None and row.success is not None]
    tables += [_targeted_table(targeted)] if targeted else []
    tables += [_distance_table(results.distances)] if results.distances else []
    return tuple(tables)


def accuracy_table(rows: Sequence[Row]) -> HtmlTable:
    """One line for each protocol and model, one column for each attack, in one threat model."""
    attacks, titles = columns(list(rows)), column_titles()
    lines = []
    for (protocol, model), cells in grid(list(rows)).items():
        names = [f"{model}/{protocol}/{attack}" + _suffix(rows[0]) for attack in attacks]
        images = max(row.examples for row in cells.values())
        lines.append((
            HtmlCell(protocol), HtmlCell(title_of(model)),
            *(shown_cell(cells.get(attack), name) for attack, name in zip(attacks, names, strict=True)),
            HtmlCell(f"{images:,}"),
        ))  # fmt: skip
    heads = ("protocol", "model", *(titles.get(attack, attack) for attack in attacks), "images")
    title = f"Accuracy in per cent, {threat_text(rows[0])}"
    note = "Below each accuracy stands its 95 % interval over images. Worst case: right under every attack of the line."
    return HtmlTable(title, heads, tuple(lines), 2, note)


def _suffix(row: Row) -> str:
    return "" if row.norm is None else f"/{row.norm}-{row.eps:g}"


def _targeted_table(rows: Sequence[Row]) -> HtmlTable:
    heads = ("protocol", "model", "attack", "threat model", "target", "success", "images")
    lines = tuple(
        tuple(map(HtmlCell, (
            row.protocol, title_of(row.model), column_titles().get(row.attack, row.attack), threat_text(row),
            str(row.target), f"{100 * (row.success or 0):.1f}", f"{row.examples:,}",
        )))
        for row in rows
    )  # fmt: skip
    title = "Targeted attacks: per cent of the images of other classes that are mistaken for the target"
    return HtmlTable(title, heads, lines, 5)


def _distance_table(distances: Sequence[Distance]) -> HtmlTable:
    heads = ("protocol", "model", "attack", "norm", "25 %", "median", "75 %", "fooled", "images")
    lines = []
    for each in distances:
        quartiles = (each.lower_quartile, each.median, each.upper_quartile)
        numbers = ["–" if value is None else f"{value:.4g}" for value in quartiles]
        words = [each.protocol, title_of(each.model), column_titles().get(each.attack, each.attack)]
        lines.append(tuple(map(HtmlCell, (*words, NORM_TITLES[each.norm], *numbers,
                                          f"{each.found:,}", f"{each.examples:,}"))))  # fmt: skip
    title = "Length of the smallest perturbation that fools each correctly classified image"
    return HtmlTable(title, heads, tuple(lines), 4, "Quartiles over images, in pixels of [0, 1].")


def entries_of(run: str, results: Results) -> list[Entry]:
    """The models of a run as lines of the leaderboard."""
    found = []
    for worst in headline_rows(results.rows):
        key = (worst.model, worst.protocol, "none", worst.norm, worst.eps)
        same = (row for row in results.rows if row.target is None
                and (row.model, row.protocol, row.attack, row.norm, row.eps) == key)  # fmt: skip
        raised = sum(check.flagged for check in results.checks if check.model == worst.model)
        found.append(Entry(run, worst, next(same, None), raised))
    return found


def leaderboard(entries: Sequence[Entry]) -> HtmlTable:
    """All models of all runs, the most accurate in the worst case first."""
    ordered = sorted(entries, key=lambda entry: -entry.worst.accuracy)
    heads = ("run", "model", "protocol", "threat model", "clean", "worst case", "flags", "images")
    lines = tuple(
        (
            HtmlCell(each.run), HtmlCell(title_of(each.worst.model)), HtmlCell(each.worst.protocol),
            HtmlCell(threat_text(each.worst)), shown_cell(each.clean), shown_cell(each.worst),
            HtmlCell(str(each.flags)), HtmlCell(f"{each.worst.examples:,}"),
        )
        for each in ordered
    )  # fmt: skip
    note = (
        "Each model stands under the strongest protocol that was run on it. Compare only lines of the same protocol "
        "and threat model. Flags: checks for gradient masking that give a reason not to believe the number."
    )
    return HtmlTable("Leaderboard", heads, lines, 4, note)


def difference_table(entries: Sequence[Entry]) -> HtmlTable | None:
    """Differences of the worst cases, image by image, of all pairs that share a protocol and a threat model."""
    ordered = sorted(entries, key=lambda entry: -entry.worst.accuracy)[:MOST_COMPARED]
    lines = []
    for place, first in enumerate(ordered):
        for second in ordered[place + 1 :]:
            if _comparable(first.worst, second.worst):
                pair = paired_rows(first.worst, second.worst)
                low, high = pair.interval
                lines.append((
                    HtmlCell(_named(first)), HtmlCell(_named(second)),
                    HtmlCell(f"{pair.difference:+.1f}", f"{low:+.1f} to {high:+.1f}"),
                    HtmlCell(probability(pair.p_value)), HtmlCell(f"{pair.images:,}"),
                ))  # fmt: skip
    if not lines:
        return None
    heads = ("model", "compared with", "difference in points", "p-value", "images")
    note = (
        "Both models are judged on the same images, each under its worst case. Below each difference stands its 95 % "
        "interval by resampling images; the p-value is that of McNemar's exact test, without a correction for the "
        "number of pairs."
    )
    return HtmlTable("Paired differences", heads, tuple(lines), 2, note)


def _comparable(first: Row, second: Row) -> bool:
    known = first.right is not None and second.right is not None
    return known and (first.protocol, first.norm, first.eps) == (second.protocol, second.norm, second.eps)


def _named(entry: Entry) -> str:
    return f"{title_of(entry.worst.model)} ({entry.run})"
