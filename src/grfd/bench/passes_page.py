"""The parts of docs/attacks.md about passes: the proof of A3, and robust accuracy by the passes that were spent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grfd.bench.libraries import THIS_LIBRARY
from grfd.bench.passes import PassesRow, proofs
from grfd.evaluation.numbers import column_titles
from grfd.report.sheets import Sheet, markdown
from grfd.report.style import PAGE, new_figure, saved, styled

FIGURE = "attack-passes"
_PANELS_IN_A_ROW = 3
_MARKERS = {THIS_LIBRARY: "o", "torchattacks": "s", "art": "^", "foolbox": "D", "pyautoattack": "v"}
_DRAWN = ("a3", "quick", "aa", "fgsm", "pgd", "apgd_ce", "apgd_t", "square")
"""The attacks of the figure. The table has all."""
_ALLOWED = (10, 30, 100, 300, 1000)
"""Passes per image, forward and backward, for which the table names the strongest attack."""


def proof_section(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A3 and its quick version beside AutoAttack, model by model."""
    header = ["model", "A3", "A3, quick", "AutoAttack", "forward", "backward", "time", "quick: forward",
              "quick: backward"]  # fmt: skip
    measured = [PassesRow(**row) for row in rows]
    quick = {each.model: each for each in proofs(measured, "quick")}
    lines = []
    for each in proofs(measured, "a3"):
        fast = quick.get(each.model)
        numbers = [
            f"{100 * each.robust:.1f}",
            f"{100 * fast.robust:.1f}" if fast else "–",
            f"{100 * each.reference:.1f}",
        ]
        ratios = [f"1/{ratio:.1f}" for ratio in (each.forward, each.backward, each.seconds)]
        ratios += [f"1/{fast.forward:.0f}", f"1/{fast.backward:.0f}"] if fast else ["–", "–"]
        lines.append([_model(each.model), *numbers, *ratios])
    text = (
        "`grfd bench passes`: robust accuracy in per cent, and passes and time of A3 as a share of AutoAttack's. "
        "A pass is one image that the model classifies. ε is that of AutoAttack in Table 1. A3 was developed on other "
        "networks, and on training images. Other work ran at the same time, so the times are only roughly right."
    )
    return [text, markdown(Sheet(header, lines))]


def curves_section(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The strongest attack for each number of passes, and the figure of all attacks."""
    measured = [PassesRow(**row) for row in rows]
    lines = []
    for model in _models(measured):
        of_model = [row for row in measured if row.model == model]
        reference = next((f"{100 * row.robust:.1f}" for row in of_model if row.attack == "aa"), "–")
        lines.append([_model(model), *(_best_text(of_model, allowed) for allowed in _ALLOWED), reference])
    text = (
        "`grfd bench passes --save results/attack_curves.json`: the lowest robust accuracy, in per cent, that any "
        "attack of any library leaves within the number of passes per image in the header, forward and backward "
        "together. The last column is AutoAttack, without a limit; a dash means that it was not run. Where the name of "
        "another library stands in brackets, its attack was better than all of ours."
    )
    header = ["model", *(f"≤ {allowed:,} passes" for allowed in _ALLOWED), "AutoAttack"]
    picture = f"![Robust accuracy by the passes that were spent]({FIGURE}.png)"
    every = (
        "Every attack of every library at the largest of its budgets: what it leaves, in per cent, and in brackets the "
        "passes per image that it spent, forward and backward together."
    )
    return [text, markdown(Sheet(header, lines)), picture, every, markdown(_every_attack(measured))]


def _every_attack(rows: Sequence[PassesRow]) -> Sheet:
    """One line for each attack of each library, one column for each model."""
    largest: dict[tuple[str, str, str], PassesRow] = {}
    for row in rows:
        key = (row.attack, row.library, row.model)
        if key not in largest or row.budget > largest[key].budget:
            largest[key] = row
    lines = []
    for attack, library in dict.fromkeys((row.attack, row.library) for row in rows):
        found = [largest.get((attack, library, model)) for model in _models(rows)]
        cells = [f"{100 * row.robust:.1f} ({_spent(row):,.0f})" if row else "–" for row in found]
        lines.append([column_titles()[attack], library, *cells])
    order = list(column_titles())
    titles = {title: order.index(name) for name, title in column_titles().items()}
    lines.sort(key=lambda line: titles[line[0]])  # the order of the registry; our library first, as it was measured
    return Sheet(["attack", "library", *(_model(model) for model in _models(rows))], lines, left=2)


def draw_passes(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Writes attack-passes.png and .pdf: robust accuracy over passes, one panel for each model."""
    measured = [each for each in (PassesRow(**row) for row in rows) if each.attack in _DRAWN]
    models = _models(measured)
    columns = max(1, min(_PANELS_IN_A_ROW, len(models)))
    lines = max(1, -(-len(models) // columns))
    colours = {attack: f"C{index % 7}" for index, attack in enumerate(dict.fromkeys(row.attack for row in measured))}
    with styled():
        figure = new_figure(PAGE, 0.6 + 2.0 * lines)
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True)
        for axis, model in zip(axes.flat, models, strict=False):
            _draw_panel(axis, [row for row in measured if row.model == model], colours)
            axis.set_title(_model(model))
        for index, axis in list(enumerate(axes.flat))[len(models) :]:
            axis.axis("off")
            axes.flat[index - columns].tick_params(labelbottom=True)
        figure.supxlabel("passes per image, forward and backward", fontsize=8)
        figure.supylabel("robust accuracy, per cent", fontsize=8)
        handles = {label: handle for axis in axes.flat
                   for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}  # fmt: skip
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=6)
        return saved(figure, folder / FIGURE)


def _draw_panel(axis: Any, rows: Sequence[PassesRow], colours: dict[str, str]) -> None:
    """One line for each attack of each library. Ours are filled circles, those of others are hollow."""
    for library, attack in dict.fromkeys((row.library, row.attack) for row in rows):
        points = sorted(
            (_spent(row), 100 * row.robust) for row in rows if (row.library, row.attack) == (library, attack)
        )
        ours = library == THIS_LIBRARY
        title = column_titles()[attack] + ("" if ours else f" ({library})")
        size = 6.0 if attack in ("a3", "quick") else 3.5
        (line,) = axis.plot(*zip(*points, strict=True), color=colours[attack], marker=_MARKERS[library], label=title)
        line.set(markersize=size, linestyle="-" if ours else ":")
        line.set_markerfacecolor(colours[attack] if ours else "none")
    axis.set_xscale("log")


def _best_text(rows: Sequence[PassesRow], allowed: int) -> str:
    """The attack that leaves least within the allowed passes, with what it leaves. Ours come first among equals."""
    inside = [row for row in rows if _spent(row) <= allowed]
    if not inside:
        return "–"
    best = min(inside, key=lambda row: (row.robust, row.library != THIS_LIBRARY, _spent(row)))
    library = "" if best.library == THIS_LIBRARY else f" ({best.library})"
    return f"{100 * best.robust:.1f} {column_titles()[best.attack]}{library}"


def _spent(row: PassesRow) -> float:
    return row.forward + row.backward


def _models(rows: Sequence[PassesRow]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))


def _model(name: str) -> str:
    return name.removeprefix("results/").removeprefix("threat-models/")
