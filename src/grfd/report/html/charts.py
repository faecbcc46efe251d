"""The charts of a report as Vega-Lite specifications, each with the table of its numbers.

Colours are variables of the style sheet, so that a chart follows a change between light, dark and print.
"""

import math
from collections.abc import Sequence
from typing import Any

from grfd.attacks.budgets import NORM_TITLES
from grfd.evaluation.numbers import column_titles
from grfd.evaluation.protocols import COMPARED
from grfd.evaluation.results import Results, Row
from grfd.report.curves import curve_rows
from grfd.report.html.content import HtmlCell, HtmlChart, HtmlTable
from grfd.report.html.entries import entries_of, title_of
from grfd.training.metrics import Epoch

COLOURS = 8
"""Colours of the style sheet: --series-1 to --series-8."""
_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)", "titleColor": "var(--ink)", "gridColor": "var(--line)", "tickColor": "var(--line)",
        "domainColor": "var(--line)", "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "labelLimit": 190,
    },
    "legend": {"labelColor": "var(--ink)", "titleColor": "var(--ink)", "labelFontSize": 12, "titleFontSize": 12,
               "orient": "top", "columns": 2, "symbolOpacity": 1, "labelLimit": 220, "symbolLimit": 30},
    "range": {"category": [f"var(--series-{1 + place})" for place in range(COLOURS)]},
}  # fmt: skip


def run_charts(results: Results, epochs: Sequence[Epoch], passes: Sequence[dict[str, Any]]) -> tuple[HtmlChart, ...]:
    """All charts that the numbers of a run give. `passes`: as in `passes_chart`."""
    charts = [clean_and_worst_chart(results)]
    charts += [eps_chart(results.rows, norm) for norm in dict.fromkeys(row.norm for row in results.rows) if norm]
    charts += [passes_chart(passes), *training_charts(epochs)]
    return tuple(chart for chart in charts if chart is not None)


def clean_and_worst_chart(results: Results) -> HtmlChart | None:
    """Clean accuracy and worst case of all models of a run, with intervals."""
    points, lines = [], []
    for entry in entries_of("", results):
        name = f"{title_of(entry.worst.model)} ({entry.worst.protocol})"
        for what, row in (("clean", entry.clean), ("worst case", entry.worst)):
            if row is not None:
                points.append({"model": name, "images": what, **_with_interval(row)})
                lines.append(_line((name, what), row))
    if not points:
        return None
    y = {"field": "model", "type": "nominal", "title": None, "sort": None}
    x = {"type": "quantitative", "title": "accuracy, per cent", "scale": {"domain": [0, 100]}}
    colour = {"field": "images", "type": "nominal", "title": None, "sort": ["clean", "worst case"]}
    offset = {"field": "images", "sort": ["clean", "worst case"]}
    tip = _tooltip("model", "images")
    common = {"y": y, "yOffset": offset, "color": colour}
    spec = _spec(points, height=80 + 36 * len(points) // 2) | {
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2},
             "encoding": common | {"x": x | {"field": "low"}, "x2": {"field": "high"}}},
            {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
             "encoding": common | {"x": x | {"field": "accuracy"}, "shape": colour | {"legend": None}, "tooltip": tip}},
        ]
    }  # fmt: skip
    table = _table(("model", "images"), lines)
    text = "Each model under the strongest protocol that was run on it. Lines are 95 % intervals."
    return HtmlChart("clean-and-worst", "Clean accuracy and worst case", text, spec, table)


def eps_chart(rows: Sequence[Row], norm: str) -> HtmlChart | None:
    """Accuracy in the worst case over ε, with bands of 95 % intervals. None with fewer than two values of ε."""
    curves = curve_rows(rows, norm)
    if not curves:
        return None
    points, lines = [], []
    for model, line in curves.items():
        name = f"{title_of(model)} ({line[0].protocol})"
        points += [{"model": name, "eps": row.eps, **_with_interval(row)} for row in line]
        lines += [_line((name, f"{row.eps:.4g}"), row) for row in line]
    tip = _tooltip("model", "eps")
    x = {"field": "eps", "type": "quantitative", "title": f"ε in {NORM_TITLES[norm]}, pixels of [0, 1]"}
    y = {"type": "quantitative", "title": "worst case, per cent", "scale": {"domain": [0, 100]}}
    colour = {"field": "model", "type": "nominal", "title": None, "sort": None}
    spec = _spec(points) | {
        "layer": [
            {"mark": {"type": "area", "opacity": 0.15},
             "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour}},
            {"mark": {"type": "line", "point": {"size": 40}},
             "encoding": {"x": x, "y": y | {"field": "accuracy"}, "color": colour, "tooltip": tip}},
        ]
    }  # fmt: skip
    text = "Right under every attack, at each size ε of the perturbation. Bands are 95 % intervals."
    return HtmlChart(f"eps-{norm}", f"Accuracy over ε, {NORM_TITLES[norm]}", text, spec, _table(("model", "ε"), lines))


def passes_chart(passes: Sequence[dict[str, Any]]) -> HtmlChart | None:
    """What each attack leaves, over the forward passes that it spent for an image.

    `passes`: a dictionary for each record with model, protocol, attack, accuracy (per cent) and passes.
    """
    strongest: dict[str, str] = {}
    for protocol in COMPARED:
        strongest |= {each["model"]: protocol for each in passes if each["protocol"] == protocol}
    points = [
        {**each, "model": f"{title_of(each['model'])} ({each['protocol']})",
         "attack": column_titles().get(each["attack"], each["attack"])}
        for each in passes
        if strongest.get(each["model"]) == each["protocol"] and each["passes"] > 0
    ]  # fmt: skip
    if len({each["attack"] for each in points}) < 2:
        return None
    x = {"field": "passes", "type": "quantitative", "title": "forward passes for an image, on average",
         "scale": {"type": "log"}}  # fmt: skip
    y = {"field": "accuracy", "type": "quantitative", "title": "accuracy, per cent", "scale": {"domain": [0, 100]}}
    colour = {"field": "model", "type": "nominal", "title": None, "sort": None}
    tooltip = [{"field": name, "type": "nominal"} for name in ("model", "attack", "passes", "accuracy")]
    spec = _spec(points) | {
        "layer": [
            {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
             "encoding": {"x": x, "y": y, "color": colour, "shape": colour, "tooltip": tooltip}},
            {"mark": {"type": "text", "dy": -10, "fontSize": 11, "color": "var(--ink)"},
             "encoding": {"x": x, "y": y, "text": {"field": "attack"}}},
        ]
    }  # fmt: skip
    heads = ("model", "attack", "passes", "accuracy")
    lines = tuple(
        tuple(map(HtmlCell, (p["model"], p["attack"], f"{p['passes']:,.0f}", f"{p['accuracy']:.1f}"))) for p in points
    )
    text = "Passes are those of the attacked model, averaged over each batch. Both axes matter: low and left is strong."
    return HtmlChart("passes", "Accuracy over passes", text, spec, HtmlTable("", heads, lines, 2))


def training_charts(epochs: Sequence[Epoch]) -> list[HtmlChart]:
    """One chart for each training stage of at least two epochs: all terms of its loss over the epochs."""
    charts = []
    for stage in dict.fromkeys(str(epoch["stage"]) for epoch in epochs):
        mine = [epoch for epoch in epochs if epoch["stage"] == stage]
        terms = [name for name in mine[0] if name not in ("stage", "epoch", "seconds")]
        points = [
            {"epoch": epoch["epoch"], "term": term, "value": epoch[term]}
            for epoch in mine for term in terms if _is_finite(epoch.get(term))
        ]  # fmt: skip
        if len({point["epoch"] for point in points}) > 1:
            charts.append(_training_chart(stage, points))
    return charts


def _training_chart(stage: str, points: list[dict[str, Any]]) -> HtmlChart:
    ticks = _whole_ticks(sorted({point["epoch"] for point in points}))
    x = {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": {"values": ticks, "format": "d"},
         "scale": {"nice": False}}  # fmt: skip
    y = {"field": "value", "type": "quantitative", "title": "mean over the epoch", "scale": {"zero": False}}
    colour = {"field": "term", "type": "nominal", "title": None, "sort": None}
    tooltip = [{"field": name, "type": "nominal"} for name in ("term", "epoch", "value")]
    spec = _spec(points, height=180) | {
        "mark": {"type": "line", "point": len(points) < 200},
        "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
    }
    lines = tuple(tuple(map(HtmlCell, (p["term"], str(p["epoch"]), f"{p['value']:.4g}"))) for p in points)
    table = HtmlTable("", ("term", "epoch", "value"), lines)
    return HtmlChart(f"training-{stage}", f"Training: {stage}", "The loss and its terms.", spec, table)


def _whole_ticks(epochs: Sequence[int], most: int = 10) -> list[int]:
    """The first of the epochs and every n-th after it, at most `most`. Vega's own ticks may lie between two epochs."""
    return list(epochs[:: -(-len(epochs) // most)])


def _spec(points: list[dict[str, Any]], height: int = 280) -> dict[str, Any]:
    return {
        "config": _CONFIG, "width": "container", "height": height,
        "autosize": {"type": "fit", "contains": "padding"}, "data": {"values": points},
    }  # fmt: skip


def _with_interval(row: Row) -> dict[str, float]:
    low, high = row.interval
    return {"accuracy": round(100 * row.accuracy, 3), "low": round(100 * low, 3), "high": round(100 * high, 3)}


def _tooltip(*names: str) -> list[dict[str, str]]:
    numbers = [{"field": name, "type": "quantitative", "format": ".1f"} for name in ("accuracy", "low", "high")]
    return [*({"field": name, "type": "nominal"} for name in names), *numbers]


def _line(words: tuple[str, ...], row: Row) -> tuple[HtmlCell, ...]:
    low, high = row.interval
    return (*map(HtmlCell, words), HtmlCell(f"{100 * row.accuracy:.1f}", f"{100 * low:.0f}–{100 * high:.0f}"))


def _table(words: tuple[str, ...], lines: list[tuple[HtmlCell, ...]]) -> HtmlTable:
    return HtmlTable("", (*words, "accuracy"), tuple(lines), len(words))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
