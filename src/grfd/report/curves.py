"""The figure of robustness curves: accuracy over ε, one line for each model."""

from collections.abc import Sequence
from pathlib import Path

from grfd.attacks.budgets import NORM_TITLES
from grfd.evaluation.numbers import model_titles
from grfd.evaluation.protocols import COMPARED
from grfd.evaluation.results import Row
from grfd.report.style import COLUMN, new_figure, saved, styled


def curve_rows(rows: Sequence[Row], norm: str) -> dict[str, list[Row]]:
    """Model → its worst case at each ε, under the strongest protocol that was run on it.

    Only models with at least two values of ε have a curve.
    """
    chosen = [row for row in rows if row.norm == norm and row.target is None and row.attack == "worst"]
    curves = {}
    for model in dict.fromkeys(row.model for row in chosen):
        protocols = {row.protocol for row in chosen if row.model == model}
        strongest = next((name for name in reversed(COMPARED) if name in protocols), None)
        line = [row for row in chosen if row.model == model and row.protocol == strongest]
        if len(line) > 1:
            curves[model] = sorted(line, key=lambda row: row.eps or 0.0)
    return curves


def draw_curves(rows: Sequence[Row], folder: Path, prefix: str = "curve") -> list[Path]:
    """Writes PREFIX-NORM.png and .pdf for each norm with several ε. The bands are 95 % intervals."""
    written = []
    for norm in dict.fromkeys(row.norm for row in rows if row.norm is not None):
        curves = curve_rows(rows, norm)
        if curves:
            written += _drawn(curves, norm, folder / f"{prefix}-{norm}")
    return written


def _drawn(curves: dict[str, list[Row]], norm: str, path: Path) -> list[Path]:
    with styled():
        figure = new_figure(COLUMN, 3.0)
        axis = figure.subplots()
        for model, line in curves.items():
            eps = [row.eps or 0.0 for row in line]
            title = f"{model_titles().get(model, model)} ({line[0].protocol})"
            (drawn,) = axis.plot(eps, [100 * row.accuracy for row in line], "o-", markersize=3, label=title)
            low, high = zip(*(row.interval for row in line), strict=True)
            axis.fill_between(eps, [100 * each for each in low], [100 * each for each in high], alpha=0.15,
                              color=drawn.get_color(), linewidth=0)  # fmt: skip
        axis.set_xlabel(f"ε in {NORM_TITLES[norm]}, pixels of [0, 1]")
        axis.set_ylabel("accuracy in the worst case, per cent")
        axis.set_ylim(0, 101)
        axis.set_xlim(0, None)
        figure.legend(loc="outside upper center", ncols=2)  # the lines fill the axis
        return saved(figure, path)
