"""Figure 4b: GRFD trained on 10 to 100 % of the images.

Claim: with 10 % of the images GRFD reaches 95.20 % clean and 87.32 % on average over five attacks, compared with 98.82
and 93.69 with all images. The standard model, on which transferred examples are made, is trained on all images.
Cost: `grfd reproduce fig4b --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce fig4b --scale short --seeds 3`.
"""

from functools import partial
from pathlib import Path

from rich.table import Table

from grfd.evaluation.protocols import COMPARED, Protocol
from grfd.evaluation.spread import averages, averages_text, cell_text, values
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.paper import FIGURE_4B
from grfd.experiments.records import config_of
from grfd.experiments.variant_records import (
    VariantRecords,
    attacks_of,
    committed_variants,
    deviations,
    find_variant,
    means,
    shared_opening,
)
from grfd.experiments.variants import FOLDER, SCALES, SCHEDULES, Variant, read_judged
from grfd.report.sheets import Sheet, markdown, printed, write
from grfd.report.style import PAGE, new_figure, saved, styled

__all__ = ["FOLDER", "SCALES", "cells", "draw", "section", "show"]

_SHARES = tuple(range(10, 101, 10))
"""The parts of the training images that GRFD is trained on, in per cent."""
_OFFICIAL_IMAGES = {"mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
"""Data set → the number of its training images."""
_LINES = {"none": "clean", "average": "average under attack", "worst": "worst case"}


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The training on each share and the evaluation of all of them, for each seed."""
    config = SCHEDULES[scale].config
    changes = [changes_of_share(share, config.train_examples, config.data) for share in _SHARES]
    return variants.cells(out, scale, seeds, [Variant(each) for each in changes], data_dir)


def changes_of_share(share: int, train_examples: int | None, data: str) -> dict[str, int]:
    """What the configuration changes for a share of the training images. `train_examples` None means all images."""
    return {} if share == 100 else {"train_examples": (train_examples or _OFFICIAL_IMAGES[data]) * share // 100}


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers, and fig4b.png and .pdf."""
    records = read_judged(out, scale, seeds)
    sheet = _sheet(records)
    write(sheet, out / "fig4b")
    return [printed(sheet), f"drawn {_draw(records, out / 'fig4b')[0]}"]


def section(results: Path) -> list[str]:
    """The table and the figure, if the records of more than one share are there."""
    records = _committed(results)
    if records is None:
        return []
    return [
        shared_opening(records),
        "### Figure 4b: fewer training images",
        "`grfd reproduce fig4b`. Each cell shows our accuracy, followed by / the paper's if its text gives one. The "
        "standard model, on which transferred examples are made, was trained on all images. With fewer images, an "
        "epoch has fewer steps.",
        markdown(_sheet(records)),
        "![Accuracy by share of the training images](fig4b.png)",
    ]


def draw(results: Path, docs: Path) -> list[Path]:
    """fig4b.png and .pdf, if the records of more than one share are there."""
    records = _committed(results)
    return [] if records is None else _draw(records, docs / "fig4b")


def _committed(results: Path) -> VariantRecords | None:
    records = committed_variants(results)
    if records is None:
        return None
    numbers = _shares(records)
    return records if numbers and all(len(by_share) > 1 for by_share in numbers.values()) else None


def _shares(records: VariantRecords) -> dict[Protocol, dict[int, dict[str, list[float]]]]:
    """Protocol → per cent of the training images → clean, average and worst case, one value for each seed."""
    attacks, config = attacks_of(records), config_of(records.folders[0])
    numbers: dict[Protocol, dict[int, dict[str, list[float]]]] = {}
    for protocol in COMPARED:
        for share in _SHARES:
            name = find_variant(records, changes_of_share(share, config["train_examples"], config["data"]))
            if name:
                get = partial(values, records.grids, protocol, name)
                average = averages(records.grids, protocol, name, attacks)
                by_share = numbers.setdefault(protocol, {})
                by_share[share] = {"none": get("none"), "average": average, "worst": get("worst")}
    return numbers


def _published(records: VariantRecords) -> dict[int, dict[str, float]]:
    """The paper's numbers, which it has for MNIST only."""
    return FIGURE_4B if config_of(records.folders[0])["data"] == "mnist" else {}


def _sheet(records: VariantRecords) -> Sheet:
    """The numbers behind the figure, ours / the paper's if its text gives one."""
    lines, published, config = [], _published(records), config_of(records.folders[0])
    for protocol, by_share in _shares(records).items():
        for share in by_share:
            paper = published.get(share, {})
            name = find_variant(records, changes_of_share(share, config["train_examples"], config["data"]))
            assert name is not None
            texts = [
                text + (f" / {paper[column]:.1f}" if column in paper else "")
                for column, text in _texts(records, protocol, name).items()
            ]
            lines.append([protocol, f"{share} %", *texts])
    return Sheet(["protocol", "training images", "clean", "average", "worst case"], lines, "Figure 4b", left=2)


def _texts(records: VariantRecords, protocol: Protocol, name: str) -> dict[str, str]:
    """Clean accuracy, average over the attacks and worst case of a variant, with intervals."""
    get = partial(cell_text, records.grids, protocol, name)
    average = averages_text(records.grids, protocol, name, attacks_of(records))
    return {"none": get("none"), "average": average, "worst": get("worst")}


def _draw(records: VariantRecords, path: Path) -> list[Path]:
    """One panel for each protocol, lines over the share of training images. Writes `path` as .png and .pdf."""
    panels, published = _shares(records), _published(records)
    with styled():
        figure = new_figure(PAGE, 2.1)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (protocol, by_share) in zip(axes, panels.items(), strict=True):
            for index, (name, label) in enumerate(_LINES.items()):
                columns = [numbers[name] for numbers in by_share.values()]
                axis.errorbar(list(by_share), means(columns), deviations(columns), fmt="os^"[index] + "-", label=label,
                              color=f"C{index}")  # fmt: skip
                paper = {share: numbers[name] for share, numbers in published.items() if name in numbers}
                axis.plot(list(paper), list(paper.values()), "x", color=f"C{index}", markersize=6,
                          label=f"paper, {label}" if paper else None)  # fmt: skip
            axis.set_title(protocol)
            axis.set_xlabel("training images, per cent")
        axes[0].set_ylabel("accuracy, per cent")
        axes[0].set_ylim(0, 101)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        return saved(figure, path)
