"""The tables of a report: accuracies with intervals, distances, the leaderboard of several runs, differences."""

import itertools
from collections.abc import Sequence

from grfd.attacks.budgets import NORM_TITLES
from grfd.evaluation.numbers import column_titles, columns, grid
from grfd.evaluation.paired import probability
from grfd.evaluation.results import CorruptionRow, Distance, Results, Row
from grfd.evaluation.spread import mean_of_shares_text
from grfd.report.html.content import HtmlCell, HtmlTable
from grfd.report.html.entries import Entry, headline_rows, paired_entries, threat_text, title_of

MOST_COMPARED = 12
"""Models of a table of differences: 12 of them give 66 pairs."""


def shown_cell(row: Row | None, name: str = "") -> HtmlCell:
    """An accuracy in per cent; below it its 95 % interval, and the number of images."""
    if row is None:
        return HtmlCell("–")
    low, high = row.interval
    return HtmlCell(f"{100 * row.accuracy:.1f}", f"{100 * low:.0f}–{100 * high:.0f}", name)


def run_tables(results: Results) -> tuple[HtmlTable, ...]:
    """All tables of one run, that of the verdict first: threat models, targets, distances and corruptions."""
    plain = [row for row in results.rows if row.target is None]
    first = [(row.norm, row.eps) for row in headline_rows(results.rows)[:1]]
    threats = dict.fromkeys([*first, *((row.norm, row.eps) for row in plain)])
    tables = [accuracy_table([row for row in plain if (row.norm, row.eps) == threat]) for threat in threats]
    targeted = [row for row in results.rows if row.target is not None and row.success is not None]
    tables += [_targeted_table(targeted)] if targeted else []
    tables += [_distance_table(results.distances)] if results.distances else []
    tables += [_corruption_table(results.corruptions)] if results.corruptions else []
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


def _corruption_table(rows: Sequence[CorruptionRow]) -> HtmlTable:
    """One line for each corruption with the mean over its severities, and a last one with the mean over all."""
    models, names = dict.fromkeys(row.model for row in rows), dict.fromkeys(row.corruption for row in rows)
    images = rows[0].examples
    lines = []
    for label, wanted in [*((name.replace("_", " "), {name}) for name in names), ("mean", set(names))]:
        shares = [[row.accuracy for row in rows if row.model == model and row.corruption in wanted] for model in models]
        lines.append((HtmlCell(label), *(HtmlCell(mean_of_shares_text(each, images)) for each in shares)))
    title = f"Accuracy in per cent under common corruptions, {images:,} images, with 95 % intervals"
    return HtmlTable(title, ("corruption", *map(title_of, models)), tuple(lines))


def leaderboard(entries: Sequence[Entry]) -> HtmlTable:
    """All models of all runs, the most accurate in the worst case first."""
    ordered = sorted(entries, key=lambda entry: -entry.worst.accuracy)
    heads = ("run", "model", "protocol", "threat model", "attacks", "clean", "worst case", "flags", "images")
    lines = tuple(
        (
            HtmlCell(each.run), HtmlCell(title_of(each.worst.model)), HtmlCell(each.worst.protocol),
            HtmlCell(threat_text(each.worst)), HtmlCell(each.attack_titles), shown_cell(each.clean),
            shown_cell(each.worst), HtmlCell(str(each.flags)), HtmlCell(f"{each.worst.examples:,}"),
        )
        for each in ordered
    )  # fmt: skip
    note = (
        "Each model stands under the strongest protocol that was run on it. Compare only lines of the same protocol, "
        "threat model and attacks. Flags: checks for gradient masking that give a reason not to believe the number."
    )
    return HtmlTable("Leaderboard", heads, lines, 5, note)


def difference_table(entries: Sequence[Entry]) -> HtmlTable | None:
    """Differences of the worst cases, image by image, of all pairs that share a protocol and a threat model."""
    ordered = sorted(entries, key=lambda entry: -entry.worst.accuracy)[:MOST_COMPARED]
    lines = []
    for first, second in itertools.combinations(ordered, 2):
        pair = paired_entries(first, second)
        if pair is not None:
            low, high = pair.interval
            shared = [column_titles().get(name, name) for name in first.attacks if name in second.attacks]
            lines.append((
                HtmlCell(_named(first)), HtmlCell(_named(second)), HtmlCell(first.worst.protocol),
                HtmlCell(", ".join(shared)), HtmlCell(f"{pair.difference:+.1f}", f"{low:+.1f} to {high:+.1f}"),
                HtmlCell(probability(pair.p_value)), HtmlCell(f"{pair.images:,}"),
            ))  # fmt: skip
    if not lines:
        return None
    heads = ("model", "compared with", "protocol", "attacks", "difference in points", "p-value", "images")
    note = (
        "Worst cases on the same images, under the attacks that were run on both. Below each difference stands its "
        "95 % interval by resampling images. The p-value is that of McNemar's exact test, without a correction for the "
        "number of pairs."
    )
    return HtmlTable("Paired differences", heads, tuple(lines), 4, note)


def _named(entry: Entry) -> str:
    return f"{title_of(entry.worst.model)} ({entry.run})"
