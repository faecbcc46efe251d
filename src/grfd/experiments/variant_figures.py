"""Figures 4a and 4b, over seeds: means, and standard deviations as error bars."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grfd.evaluation.numbers import column_titles
from grfd.experiments.variant_numbers import CASES, Judged, attacks_of, cases, printed_in_figure_4b, shares
from grfd.report.style import PAGE, saved, styled

HATCHES = ("", "////", "....", "")
"""Told apart in grey print too."""


def draw_figure_4a(judged: Judged, path: Path) -> list[Path]:
    """Bars, a group an attack, a panel a protocol. Writes `path` as .png and .pdf."""
    found = {protocol: each for protocol, each in cases(judged).items() if each}
    names = ["clean", *(column_titles()[name] for name in attacks_of(judged)), "worst\ncase"]
    with styled():
        figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axis, (protocol, numbers) in zip(axes, found.items(), strict=True):
            _bars(axis, {case: [*each[:-2], each[-1]] for case, each in numbers.items()})
            axis.set_title(protocol)
            axis.set_xticks(range(len(names)), names, rotation=50, ha="right", rotation_mode="anchor")
            axis.tick_params(axis="x", length=0)
        axes[0].set_ylabel("accuracy, per cent")
        axes[0].set_ylim(0, 101)
        figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper center", ncols=len(CASES))
        return saved(figure, path)


def _bars(axis: Axes, numbers: dict[str, list[list[float]]]) -> None:
    """A bar a case in each group, in the order and colours of all cases."""
    width = 0.8 / len(CASES)
    for index, case in enumerate(CASES):
        if case not in numbers:
            continue
        places = [group + (index - (len(CASES) - 1) / 2) * width for group in range(len(numbers[case]))]
        heights, bars = _means(numbers[case]), _deviations(numbers[case])
        axis.bar(places, heights, width, yerr=bars, label=case, hatch=HATCHES[index], edgecolor="white", linewidth=0.3,
                 color=f"C{index}", error_kw={"elinewidth": 0.7, "capsize": 1.2, "ecolor": "#333333"})  # fmt: skip


def draw_figure_4b(judged: Judged, path: Path) -> list[Path]:
    """Lines over the share of training images, a panel a protocol. Writes `path` as .png and .pdf."""
    found = shares(judged)
    labels = {"none": "clean", "average": "average under attack", "worst": "worst case"}
    with styled():
        figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axis, (protocol, numbers) in zip(axes, found.items(), strict=True):
            for index, (name, label) in enumerate(labels.items()):
                columns = [each[name] for each in numbers.values()]
                axis.errorbar(list(numbers), _means(columns), _deviations(columns), fmt="os^"[index] + "-", label=label,
                              color=f"C{index}")  # fmt: skip
                paper = {
                    share: printed[name] for share, printed in printed_in_figure_4b(judged).items() if name in printed
                }
                axis.plot(list(paper), list(paper.values()), "x", color=f"C{index}", markersize=6,
                          label=f"paper, {label}" if paper else None)  # fmt: skip
            axis.set_title(protocol)
            axis.set_xlabel("training images, per cent")
        axes[0].set_ylabel("accuracy, per cent")
        axes[0].set_ylim(0, 101)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        return saved(figure, path)


def _means(columns: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.mean(each) if each else float("nan") for each in columns]


def _deviations(columns: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.stdev(each) if len(each) > 1 else 0.0 for each in columns]
