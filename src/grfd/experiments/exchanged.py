"""The paper's Table 2 and Figures 2, 3, 4a and 4b with the parts exchanged, F(G(x)), beside F(x − G(x)) as published.

Claim: none of the paper's; it asks which of its findings about GRFD's terms hold once the target model receives the
part that does not keep a perturbation whole (`grfd reproduce law`), and whether GRFD then needs fewer images.
Cost: `grfd reproduce exchanged --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce exchanged --scale short`.
"""

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import scipy
from rich.table import Table

from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import Config
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
from grfd.report.figures import figure_3
from grfd.report.sheets import Sheet, markdown, printed, write
from grfd.report.style import PAGE, new_figure, saved, styled

FOLDER = "exchanged"
_SCHEDULES = {
    "quick": Schedule(Config(epochs=1, classifier_epochs=1, train_examples=6_000), 20, ("fgsm",)),
    "short": Schedule(Config(epochs=3, classifier_epochs=3), 300, ("fgsm", "a3")),
}
SCALES = tuple(_SCHEDULES)

_Changes = dict[str, Any]
_PARTS: dict[str, _Changes] = {"x − G(x)": {}, "G(x)": {"robust_part": "reconstruction"}}
"""What F receives → what the configuration changes. The first is the published GRFD."""
_WITHOUT_HEAD: _Changes = {"epsilon": 0.0}
_SHARES = (10, 30, 100)
"""The parts of the training images, in per cent."""


def _rows() -> dict[str, _Changes]:
    """The rows of Table 2."""
    return {f"{row[0]:g} | {row[1]:g} | {row[2]:g}": changes_of_row(*row) for row in TABLE_2}


def _shares(config: Config) -> dict[str, _Changes]:
    shares = {share: changes_of_share(share, config.train_examples, config.data) for share in _SHARES}
    return {f"{share} %": dict(changes) for share, changes in shares.items()}


def _chosen(config: Config) -> list[Variant]:
    """All variants, each once: with either part, the rows of Table 2, the cases of Figure 4a, shares of the images."""
    cases = [changes for changes in CASES.values() if changes is not None]
    every = [*_rows().values(), *cases, *_shares(config).values()]
    chosen = [Variant(changes | part) for part in _PARTS.values() for changes in every]
    return [each for index, each in enumerate(chosen) if each not in chosen[:index]]


def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
    """The trainings and evaluations, the latent variables and the examples of both parts, for each seed."""
    schedule, todo = _SCHEDULES[scale], []
    for seed in range(seeds):
        folder = variants_folder(out, scale, seed)
        *trainings, judging = variants.variant_cells(folder, schedule, seed, _chosen(schedule.config))
        config = variant_config(schedule, seed, Variant())
        measured, drawn = folder / JUDGED_VARIANTS / LATENTS_FILE, _exchanged_run(folder, schedule)
        todo += [
            *trainings,
            Cell(f"seed {seed}: latent variables", measured.exists,
                 partial(measure_latents, folder, _latent_runs(schedule), config)),
            Cell(f"seed {seed}: examples", (drawn / "examples.npz").exists,
                 partial(write_example_arrays, folder, drawn)),
            judging,
        ]  # fmt: skip
    return todo


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
