"""Figure 4a: the ablation of GRFD's parts, four cases.

Claim: without the RSM (robust supervisory model, case 2) or without the rectification head (case 3), little of the
robustness of the whole (case 4) is left; a single part can be worse than no defense (case 1).
Cost: `grfd reproduce fig4a --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce fig4a --scale short --seeds 3`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from grfd.evaluation.case import CONTROL
from grfd.evaluation.numbers import column_titles
from grfd.evaluation.protocols import COMPARED, Protocol
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.variant_records import (
    VariantRecords,
    accuracies,
    accuracy_texts,
    accuracy_titles,
    attacks_of,
    committed_variants,
    deviations,
    find_variant,
    means,
    shared_opening,
)
from grfd.experiments.variants import FOLDER, SCALES, Variant, read_judged
from grfd.report.sheets import Sheet, markdown, printed, write
from grfd.report.style import PAGE, new_figure, saved, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FOLDER", "SCALES", "cells", "draw", "section", "show"]

CASES: dict[str, dict[str, Any] | None] = {
    "1: no defense": None,
    "2: LVCVAE without RSM": {"gamma": 0.0, "delta": 0.0},
    "3: no rectification": {"epsilon": 0.0},
    "4: GRFD": {},
}
"""Case of section 4.3 of the paper → what differs from ε = 0.6, γ = 0.4, δ = 0.2. None is the standard model."""
_HATCHES = ("", "////", "....", "")
"""They distinguish the cases in grey print too."""


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The training of cases 2 to 4, and the evaluation of all four, for each seed."""
    parts = [Variant(changes) for changes in CASES.values() if changes is not None]
    return variants.cells(out, scale, seeds, parts, data_dir)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers, and fig4a.png and .pdf."""
    records = read_judged(out, scale, seeds)
    sheet = _sheet(records)
    write(sheet, out / "fig4a")
    return [printed(sheet), f"drawn {_draw(records, out / 'fig4a')[0]}"]


def section(results: Path) -> list[str]:
    """The table and the figure, if the records of all four cases are there."""
    records = _committed(results)
    if records is None:
        return []
    return [
        shared_opening(records),
        "### Figure 4a: the parts of GRFD",
        "`grfd reproduce fig4a`. Under `transfer`, case 1 is the second standard model, because the examples are made "
        "on the first.",
        markdown(_sheet(records)),
        "![Accuracy by case, attack and protocol](fig4a.png)",
    ]


def draw(results: Path, docs: Path) -> list[Path]:
    """fig4a.png and .pdf, if the records of all four cases are there."""
    records = _committed(results)
    return [] if records is None else _draw(records, docs / "fig4a")


def _committed(results: Path) -> VariantRecords | None:
    records = committed_variants(results)
    if records is None or not all(find_variant(records, changes) for changes in CASES.values()):
        return None
    return records


def _cases(records: VariantRecords) -> dict[Protocol, dict[str, list[list[float]]]]:
    """Protocol → case → `accuracies`."""
    named = {case: find_variant(records, changes) for case, changes in CASES.items()}
    return {
        protocol: {case: accuracies(records, protocol, _judged(name, protocol)) for case, name in named.items() if name}
        for protocol in COMPARED
    }


def _judged(name: str, protocol: Protocol) -> str:
    """The model of a case: under transfer, whose examples are made on the standard model, case 1 is the second one."""
    return CONTROL if name == "standard" and protocol == "transfer" else name


def _sheet(records: VariantRecords) -> Sheet:
    """The numbers behind the figure."""
    lines = [
        [protocol, case, *accuracy_texts(records, protocol, _judged(name, protocol))]
        for protocol in COMPARED
        for case, changes in CASES.items()
        if (name := find_variant(records, changes)) is not None
    ]
    return Sheet(["protocol", "case", *accuracy_titles(records)], lines, "Figure 4a", left=2)


def _draw(records: VariantRecords, path: Path) -> list[Path]:
    """One panel for each protocol, one group of bars for each attack. Writes `path` as .png and .pdf."""
    panels = {protocol: numbers for protocol, numbers in _cases(records).items() if numbers}
    names = ["clean", *(column_titles()[name] for name in attacks_of(records)), "worst\ncase"]
    with styled():
        figure = new_figure(PAGE, 2.1)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (protocol, numbers) in zip(axes, panels.items(), strict=True):
            _bars(axis, {case: [*columns[:-2], columns[-1]] for case, columns in numbers.items()})
            axis.set_title(protocol)
            axis.set_xticks(range(len(names)), names, rotation=50, ha="right", rotation_mode="anchor")
            axis.tick_params(axis="x", length=0)
        axes[0].set_ylabel("accuracy, per cent")
        axes[0].set_ylim(0, 101)
        figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside upper center", ncols=len(CASES))
        return saved(figure, path)


def _bars(axis: "Axes", numbers: dict[str, list[list[float]]]) -> None:
    """One bar for each case in each group: the mean over seeds, with the standard deviation as error bar."""
    width = 0.8 / len(CASES)
    for index, case in enumerate(CASES):
        if case not in numbers:
            continue
        places = [group + (index - (len(CASES) - 1) / 2) * width for group in range(len(numbers[case]))]
        heights, bars = means(numbers[case]), deviations(numbers[case])
        axis.bar(places, heights, width, yerr=bars, label=case, hatch=_HATCHES[index], edgecolor="white", linewidth=0.3,
                 color=f"C{index}", error_kw={"elinewidth": 0.7, "capsize": 1.2, "ecolor": "#333333"})  # fmt: skip
