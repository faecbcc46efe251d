"""The tables of chosen threat models, for a terminal: curves over ε, targeted success, distances, rounded images."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from grfd.attacks.budgets import NORM_TITLES, Ball
from grfd.data.corruptions import SEVERITIES
from grfd.evaluation.numbers import columns, grid, model_titles, narrow_titles
from grfd.evaluation.results import CorruptionRow, Distance, Row
from grfd.evaluation.spread import mean_of_shares_text
from grfd.report.table import results_table, with_interval


def threat_tables(rows: Sequence[Row], distances: Sequence[Distance]) -> list[Table]:
    """All tables that the rows of chosen threat models and the distances give; none if there are none."""
    chosen = [row for row in rows if row.norm is not None and row.target is None]
    tables = []
    for norm in dict.fromkeys(row.norm for row in chosen):
        mine = [row for row in chosen if row.norm == norm]
        values = sorted({row.eps for row in mine if row.eps is not None})
        tables.append(_curve(norm, values, mine) if len(values) > 1 else _single(norm, values[0], mine))
    targeted = [row for row in rows if row.target is not None]
    tables += [_targeted(targeted)] if targeted else []
    tables += [_distances(distances)] if distances else []
    rounded = [row for row in rows if row.rounded is not None]
    return tables + ([_rounded(rounded)] if rounded else [])


def _single(norm: str | None, eps: float, rows: list[Row]) -> Table:
    return results_table(rows, {}, f"Accuracy in per cent, {Ball(norm, eps)}")  # type: ignore[arg-type]


def _curve(norm: str | None, values: list[float], rows: list[Row]) -> Table:
    """One line for each protocol, model and attack, with the accuracy at each ε."""
    title = f"Accuracy in per cent over ε, {NORM_TITLES[str(norm)]} "
    table = _table(title, ["protocol", "model", "attack"], [f"{eps:.4g}" for eps in values])
    at = {eps: grid([row for row in rows if row.eps == eps]) for eps in values}
    last: tuple[str, str] | None = None
    for key in grid(rows):
        attacks = columns([row for row in rows if (row.protocol, row.model) == key])
        shown = ["worst"] if len(attacks) <= 3 else [*attacks[1:-1], "worst"]
        for attack in shown:
            cells = [at[eps].get(key, {}).get(attack) for eps in values]
            names = [*_changed(key, last), narrow_titles().get(attack, attack).replace("-\n", "-").replace("\n", " ")]
            table.add_row(*names, *("–" if row is None else with_interval(row) for row in cells))
            last = key
    return table


def _changed(key: tuple[str, str], last: tuple[str, str] | None) -> list[str]:
    """Protocol and model, empty where they are those of the line above."""
    protocol = "" if last is not None and key[0] == last[0] else key[0]
    return [protocol, "" if key == last else model_titles().get(key[1], key[1])]


def _targeted(rows: list[Row]) -> Table:
    """One line for each model, protocol, threat model and target: how many images are mistaken for it."""
    attacks = [name for name in columns(rows) if name not in ("none", "worst")]
    title = "Targeted attacks: per cent of the images of other classes that are mistaken for the target"
    table = _table(title, ["protocol", "model", "threat model", "target"], [narrow_titles().get(a, a) for a in attacks])
    lines: dict[tuple[str, str, str, str], dict[str, Row]] = {}
    for row in rows:
        threat = "Table 1" if row.norm is None else str(Ball(row.norm, row.eps or 0.0))  # type: ignore[arg-type]
        lines.setdefault((row.protocol, row.model, threat, str(row.target)), {})[row.attack] = row
    for (protocol, model, threat, target), cells in lines.items():
        texts = [_per_cent(cells[name].success if name in cells else None) for name in attacks]
        table.add_row(protocol, model_titles().get(model, model), threat, target, *texts)
    return table


def _distances(distances: Sequence[Distance]) -> Table:
    title = "Smallest perturbation that fools each correctly classified image"
    table = _table(title, ["protocol", "model", "attack", "norm"], ["25 %", "median", "75 %", "fooled", "images"])
    for each in distances:
        quartiles = (each.lower_quartile, each.median, each.upper_quartile)
        texts = ["–" if value is None else f"{value:.4g}" for value in quartiles]
        table.add_row(
            each.protocol, model_titles().get(each.model, each.model), narrow_titles().get(each.attack, each.attack),
            NORM_TITLES[each.norm], *texts, f"{each.found:,}", f"{each.examples:,}",
        )  # fmt: skip
    return table


def _rounded(rows: list[Row]) -> Table:
    """The accuracies that change; the title says of how many."""
    changed = [row for row in rows if row.rounded != row.accuracy]
    title = (
        "Kept adversarial images, judged again after rounding to 8 bits: "
        f"{len(changed) or 'none'} of {len(rows)} accuracies change"
    )
    table = _table(title, ["protocol", "model", "attack", "threat model"], ["accuracy", "rounded"])
    for row in changed:
        threat = "Table 1" if row.norm is None else str(Ball(row.norm, row.eps or 0.0))  # type: ignore[arg-type]
        name = narrow_titles().get(row.attack, row.attack).replace("-\n", "-")
        texts = [_per_cent(row.accuracy), _per_cent(row.rounded)]
        table.add_row(row.protocol, model_titles().get(row.model, row.model), name, threat, *texts)
    return table


def corruption_tables(rows: Sequence[CorruptionRow]) -> list[Table]:
    """One line for each corruption with the mean over severities, then one for each severity; a column for each model.

    The last line is the mean over all.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    if not models:
        return []
    title = f"Accuracy in per cent under common corruptions, {rows[0].examples:,} images, with 95 % intervals"
    table = _table(title, ["corruption"], [model_titles().get(model, model) for model in models])
    names = dict.fromkeys(row.corruption for row in rows)
    lines = {name.replace("_", " "): [row for row in rows if row.corruption == name] for name in names}
    of_severity = {f"severity {each}": [row for row in rows if row.severity == each] for each in SEVERITIES}
    for kind in (lines, of_severity, {"mean": list(rows)}):
        for label, mine in kind.items():
            shares = [[row.accuracy for row in mine if row.model == model] for model in models]
            table.add_row(label, *(mean_of_shares_text(each, rows[0].examples) for each in shares))
        table.add_section()
    return [table]


def _table(title: str, words: list[str], numbers: list[str]) -> Table:
    table = Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)  # fmt: skip
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _per_cent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
