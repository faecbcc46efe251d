"""The paper's Table 2 and Figures 2, 3, 4a and 4b with the parts exchanged, F(G(x)), beside F(x − G(x)) as published.

Claim: none of the paper's; it asks which of its findings about GRFD's terms hold once the target model receives the
part that does not keep a perturbation whole (`grfd reproduce law`), and whether GRFD then needs fewer images.
Cost: `grfd reproduce exchanged --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce exchanged --scale short`.
"""

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import scipy
from rich.table import Table

from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import Config
from grfd.evaluation.case import CONTROL, SOURCE
from grfd.evaluation.numbers import column_titles
from grfd.evaluation.spread import cell_text, values
from grfd.evaluation.stored import read_evaluation
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.fig2 import LATENTS_FILE, latents_sheet, measure_latents
from grfd.experiments.fig3 import write_example_arrays
from grfd.experiments.fig4a import CASES
from grfd.experiments.fig4b import changes_of_share
from grfd.experiments.paper import TABLE_2
from grfd.experiments.records import config_of
from grfd.experiments.table2 import changes_of_row
from grfd.experiments.variant_records import (
    VARIANTS_FILE,
    VariantRecords,
    deviations,
    find_variant,
    means,
    read_variants,
)
from grfd.experiments.variants import JUDGED_VARIANTS, Schedule, Variant, variant_config, variant_name, variants_folder
from grfd.report.figures import draw_examples
from grfd.report.sheets import Sheet, markdown, printed, write
from grfd.report.style import PAGE, new_figure, saved, styled

FOLDER = "exchanged"
_EXAMPLES_FILE = "exchanged-examples.npz"
"""Beside the records of a seed: what Figure 3 draws."""
_SCHEDULES = {
    "quick": Schedule(Config(epochs=1, classifier_epochs=1, train_examples=6_000), 20, ("fgsm",)),
    "short": Schedule(Config(epochs=3, classifier_epochs=3), 300, ("fgsm", "a3")),
}
SCALES = tuple(_SCHEDULES)

_Changes = dict[str, Any]
_PARTS: dict[str, _Changes] = {"x − G(x)": {}, "G(x)": {"robust_part": "reconstruction"}}
"""What F receives → what the configuration changes. The first is the published GRFD."""
_WITHOUT_HEAD: _Changes = {"epsilon": 0.0}
_ROWS: dict[tuple[float, float, float], _Changes] = {row: dict(changes_of_row(*row)) for row in TABLE_2}
"""The rows of Table 2: ε, γ and δ → what the configuration changes."""
_CASES: dict[str, _Changes] = {case: changes for case, changes in CASES.items() if changes is not None}
"""The cases of Figure 4a that GRFD has a part in."""
_SHARES = (10, 30, 100)
"""Figure 4b's parts of the training images, in per cent."""


def _shares(config: Config) -> dict[str, _Changes]:
    shares = {share: changes_of_share(share, config.train_examples, config.data) for share in _SHARES}
    return {f"{share} %": dict(changes) for share, changes in shares.items()}


def _chosen(config: Config) -> list[Variant]:
    """All variants, each once: with either part, the rows of Table 2, the cases of Figure 4a, shares of the images."""
    every = [*_ROWS.values(), *_CASES.values(), *_shares(config).values()]
    chosen = [Variant(changes | part) for part in _PARTS.values() for changes in every]
    return [each for index, each in enumerate(chosen) if each not in chosen[:index]]


def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
    """The trainings and evaluations, the latent variables and the examples of both parts, for each seed."""
    schedule, todo = _SCHEDULES[scale], []
    for seed in range(seeds):
        folder = variants_folder(out, scale, seed)
        judged, config = folder / JUDGED_VARIANTS, variant_config(schedule, seed, Variant())
        pictured = partial(_is_pictured, folder, schedule)
        trainings = variants.variant_cells(folder, schedule, seed, _chosen(schedule.config))
        todo += [
            *(_for_pictures(folder, schedule, each, pictured) for each in trainings),
            Cell(f"seed {seed}: latent variables and examples", pictured,
                 partial(_write_pictures, folder, schedule, config, judged)),
        ]  # fmt: skip
    return todo


def _for_pictures(folder: Path, schedule: Schedule, cell: Cell, pictured: Callable[[], bool]) -> Cell:
    """A cell that is also to do where the figures still need the weights that it trains."""
    name = cell.name.rpartition(": train ")[2]
    if cell.name.endswith(": standard models"):
        needed = folder / SOURCE / f"{CONTROL}.safetensors"
        return replace(cell, done=lambda: cell.done() and (pictured() or needed.exists()))
    if name in _latent_runs(schedule).values():
        return replace(cell, done=lambda: cell.done() and (pictured() or variants.is_trained(folder / name)))
    return cell


def _is_pictured(folder: Path, schedule: Schedule) -> bool:
    """Whether the figures have what they draw, or never will, because a training diverged."""
    judged = folder / JUDGED_VARIANTS
    there = (judged / LATENTS_FILE).exists() and (judged / _EXAMPLES_FILE).exists()
    return there or any((folder / name / "diverged.json").exists() for name in _latent_runs(schedule).values())


def _write_pictures(folder: Path, schedule: Schedule, config: Config, judged: Path) -> None:
    """latents.npz and the examples beside the records, where `grfd keep` finds them."""
    measure_latents(folder, _latent_runs(schedule), config)
    run = _exchanged_run(folder, schedule)
    write_example_arrays(folder, run)
    shutil.copyfile(run / "examples.npz", judged / _EXAMPLES_FILE)


def _exchanged_run(folder: Path, schedule: Schedule) -> Path:
    """The run with the parts exchanged and no other change."""
    return folder / variant_name(schedule, Variant(_PARTS["G(x)"]))


def _latent_runs(schedule: Schedule) -> dict[str, str]:
    """Figure 2's trainings, with and without the head, for both parts → their run folders."""
    kinds = {"with the head": {}, "without it": _WITHOUT_HEAD}
    return {
        f"{part}, {kind}": variant_name(schedule, Variant(changes | head))
        for part, changes in _PARTS.items()
        for kind, head in kinds.items()
    }


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The tables, the figure, and the examples of the first seed."""
    folders = [variants_folder(out, scale, seed) / JUDGED_VARIANTS for seed in range(seeds)]
    records, sheets = read_variants(folders), _sheets(read_variants(folders))
    if drawn_from := _with_latents(folders):
        sheets["latents"] = latents_sheet(drawn_from, _latent_labels(scale))
    for name, sheet in sheets.items():
        write(sheet, out / f"exchanged-{name}")
    drawn = [_draw(records, out / "exchanged")[0], *_draw_first(folders[0], out / "exchanged-fig3")[:1]]
    return [*(printed(sheet) for sheet in sheets.values()), *(f"drawn {file}" for file in drawn)]


def section(results: Path) -> list[str]:
    """The tables beside each other, whether the paper's ranking holds, and the figure."""
    folders = _committed(results)
    if not folders:
        return []
    records, sheets = read_variants(folders), _sheets(read_variants(folders))
    examples, seeds = read_evaluation(folders[0], "examples")["examples"], len(folders)
    over = f"{seeds} seeds" if seeds > 1 else "one seed"
    return [
        "## Table 2 and Figures 2 to 4 with the parts exchanged",
        f"`grfd reproduce exchanged`, {over}, {examples} test images, three epochs. Each training was done twice, once "
        "with x − G(x) for the target model, as published, and once with G(x). *Worst* is the worst case over "
        f"{' and '.join(column_titles()[name] for name in _SCHEDULES['short'].attacks)}. The paper's column is its "
        "average over five attacks. No defense keeps "
        f"{cell_text(records.grids, 'adaptive', SOURCE, 'worst')} under `adaptive`.",
        "### Table 2",
        markdown(sheets["table2"]),
        "\n".join(_ranking(records, title, changes) for title, changes in _PARTS.items()),
        "### Figure 4a",
        markdown(sheets["fig4a"]),
        "### Figure 4b",
        markdown(sheets["fig4b"]),
        "![The cases, and the shares of the training images](exchanged.png)",
        *_pictures(folders),
    ]


def _pictures(folders: Sequence[Path]) -> list[str]:
    """Figures 2 and 3, where a training that they need did not diverge."""
    parts = []
    if drawn_from := _with_latents(folders):
        parts += [
            "### Figure 2",
            "On the means μ of the latent variables, as above:",
            markdown(latents_sheet(drawn_from, _latent_labels("short"))),
        ]
    if (folders[0] / _EXAMPLES_FILE).exists():
        parts += [
            "### Figure 3",
            "With the parts exchanged, x_r is what G reproduces:",
            "![Images, their redundant parts x − G(x) and their robust parts G(x)](exchanged-fig3.png)",
        ]
    return parts


def draw(results: Path, docs: Path) -> list[Path]:
    """The figure beside the page, and figure 3 of the first seed."""
    folders = _committed(results)
    if not folders:
        return []
    return [*_draw(read_variants(folders), docs / "exchanged"), *_draw_first(folders[0], docs / "exchanged-fig3")]


def _draw_first(folder: Path, drawn: Path) -> list[Path]:
    """Figure 3 with the parts exchanged."""
    source = folder / _EXAMPLES_FILE
    return draw_examples(source, drawn) if source.exists() else []


def _with_latents(folders: Sequence[Path]) -> list[Path]:
    return [folder for folder in folders if (folder / LATENTS_FILE).exists()]


def _committed(results: Path) -> list[Path]:
    found = sorted((results / FOLDER).glob(f"short-seed-*/{JUDGED_VARIANTS}"))
    return [folder for folder in found if (folder / VARIANTS_FILE).exists()]


def _latent_labels(scale: str) -> dict[str, str]:
    return {kind: kind for kind in _latent_runs(_SCHEDULES[scale])}


def _sheets(records: VariantRecords) -> dict[str, Sheet]:
    """Table 2, and the numbers of Figures 4a and 4b, each with both parts beside each other."""
    shares = _shares(_trained_on(records))
    titles = [f"{part}: {what}" for part in _PARTS for what in ("clean", "`whitebox`, worst", "`adaptive`, worst")]
    table_2 = [
        [*(f"{weight:g}" for weight in row), f"{_published_average(row):.1f}", *_texts(records, changes)]
        for row, changes in _ROWS.items()
    ]
    fig4a = [[case, *_texts(records, changes)] for case, changes in _CASES.items()]
    fig4b = [[share, *_texts(records, changes)] for share, changes in shares.items()]
    return {
        "table2": Sheet(["ε", "γ", "δ", "the paper, average of five attacks", *titles], table_2, "Table 2", left=3),
        "fig4a": Sheet(["case", *titles], fig4a, "Figure 4a"),
        "fig4b": Sheet(["training images", *titles], fig4b, "Figure 4b"),
    }


def _texts(records: VariantRecords, changes: _Changes) -> list[str]:
    """For each part: clean accuracy, and the worst case under whitebox and adaptive."""
    texts = []
    for part in _PARTS.values():
        name = find_variant(records, changes | part)
        wanted = (("adaptive", "none"), ("whitebox", "worst"), ("adaptive", "worst"))
        texts += [cell_text(records.grids, protocol, name, attack) if name else "–" for protocol, attack in wanted]
    return texts


def _trained_on(records: VariantRecords) -> Config:
    """A configuration with the number of training images of all variants."""
    return Config(train_examples=config_of(records.folders[0])["train_examples"])


def _published_average(row: tuple[float, float, float]) -> float:
    return statistics.mean(TABLE_2[row][attack] for attack in TABLE_1_ATTACKS)


def _ranking(records: VariantRecords, title: str, part: _Changes) -> str:
    """Whether our order of the rows of Table 2 is the paper's. Empty where a row is missing or diverged."""
    rows = {row: _worst(records, changes | part) for row, changes in _ROWS.items()}
    if not all(rows.values()):
        return ""
    ours = [statistics.mean(each) for each in rows.values()]
    if len(set(ours)) == 1:
        return f"- F receives {title}: all rows keep the same accuracy."
    correlation = scipy.stats.spearmanr(ours, [_published_average(row) for row in rows])
    return (
        f"- F receives {title}: Spearman's rank correlation of our worst cases under `adaptive` with the paper's "
        f"averages is {correlation.statistic:+.2f} (p = {correlation.pvalue:.2f})."
    )


def _worst(records: VariantRecords, changes: _Changes) -> list[float]:
    name = find_variant(records, changes)
    return values(records.grids, "adaptive", name, "worst") if name else []


def _draw(records: VariantRecords, path: Path) -> list[Path]:
    """The worst case of Figure 4a's cases, and over shares of the training images, beside that of no defense."""
    undefended = statistics.mean(values(records.grids, "adaptive", SOURCE, "worst"))
    errors = deviations if len(records.folders) > 1 else lambda columns: None
    with styled():
        figure = new_figure(PAGE, 2.3)
        left, right = figure.subplots(1, 2, sharey=True)
        for index, (part, changes) in enumerate(_PARTS.items()):
            bars = [_worst(records, case | changes) for case in _CASES.values()]
            places = [place + (index - 0.5) * 0.4 for place in range(len(bars))]
            left.bar(places, means(bars), 0.38, yerr=errors(bars), color=f"C{index}", hatch=("", "////")[index],
                     edgecolor="white", linewidth=0.3, label=f"F receives {part}")  # fmt: skip
            shares = [_worst(records, share | changes) for share in _shares(_trained_on(records)).values()]
            right.errorbar(_SHARES, means(shares), errors(shares), fmt="os"[index] + "-", color=f"C{index}")
        for axis in (left, right):
            axis.axhline(undefended, color="black", linestyle="--", linewidth=0.8, label="no defense")
        left.set_xticks(range(len(_CASES)), list(_CASES))
        left.set_ylabel("worst case under adaptive, per cent")
        left.set_ylim(0, 101)
        right.set_xlabel("training images, per cent")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return saved(figure, path)
