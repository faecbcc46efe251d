"""How we read what the paper leaves open, on MNIST: each alternative as one change of the default.

Claim: none of the paper's; it measures which of the gaps and contradictions in the paper matter.
Cost: `grfd reproduce readings --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce readings --scale short --seeds 3`.
"""

from pathlib import Path
from typing import Any

from rich.table import Table

from grfd.evaluation.paired import compared, probability
from grfd.evaluation.protocols import COMPARED
from grfd.evaluation.spread import cell_text, spread
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.variant_records import (
    VariantRecords,
    committed_variants,
    find_variant,
    shared_opening,
)
from grfd.experiments.variants import FOLDER, SCALES, Variant, read_judged
from grfd.report.sheets import Sheet, markdown, printed, write

__all__ = ["FOLDER", "SCALES", "cells", "section", "show"]

READINGS: dict[str, dict[str, Any]] = {
    "the default": {},
    "KL: sum over d, as printed": {"kl": "sum"},
    "MSE: sum over pixels": {"reconstruction": "sum"},
    "σ of v: 0.1": {"sigma": 0.1},
    "σ of v: 0.3": {"sigma": 0.3},
    "v: the direction of CURE, h = 1": {"perturbation": "sign_gradient"},
    "gradient of the RSM detached": {"rsm_gradient": "detached"},
    "z sampled at inference": {"latent_at_inference": "sampled"},
    "R_D drawn anew each epoch": {"robust_dataset": "every_epoch"},
    "sign-flipped training": {"game": "sign_flipped"},
    "F starts from the RSM": {"target_start": "rsm"},
    "RSM deployed in F's place": {"deployed": "rsm"},
    "cosine of CE gradients": {"gradient_of": "cross_entropy"},
    "L2 of eq. 4, of CE gradients": {"similarity": "l2", "gradient_of": "cross_entropy"},
}
"""Alternative → what it changes. All are fields of `Config`, except `deployed`: the network behind the LVCVAE."""


def _variant(changes: dict[str, Any]) -> Variant:
    fields = {name: value for name, value in changes.items() if name != "deployed"}
    return Variant(fields, changes.get("deployed", "target"))


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The training of each reading and the evaluation of all of them, for each seed."""
    return variants.cells(out, scale, seeds, [_variant(changes) for changes in READINGS.values()], data_dir)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """One row for each reading; also written to readings.md, .tex and .csv."""
    sheet = readings_sheet(read_judged(out, scale, seeds))
    write(sheet, out / "readings")
    return [printed(sheet), f"written {out / 'readings.md'}, .tex and .csv"]


def section(results: Path) -> list[str]:
    """The table, if the records of more than one reading are there."""
    records = committed_variants(results)
    if records is None:
        return []
    sheet = readings_sheet(records)
    if len(sheet.rows) < 2:
        return []
    return [
        shared_opening(records),
        "### Which gaps of the paper matter",
        "`grfd reproduce readings`. The first row is the default, and each of the others changes one reading "
        "([how the paper was read](reading.md)). p belongs to the difference of the worst case from that of "
        "the default, on the same images of all seeds. L_cl and L_rb are means over the last epoch of stage I. "
        "*Diverged* counts the trainings in which a loss was no longer finite.",
        markdown(sheet),
    ]


def readings_sheet(records: VariantRecords) -> Sheet:
    """For each reading the clean accuracy, the worst case under each protocol, and how stage I ended."""
    lines = []
    for label, changes in READINGS.items():
        name = find_variant(records, changes)
        if name:
            last_losses = [spread(_last_losses(records, name, term), 2) for term in ("cl", "rb")]
            lines.append([label, *_compared(records, name), *last_losses, _diverged(records, name)])
    judged = [title for protocol in COMPARED for title in (f"`{protocol}`, worst case", "p")]
    return Sheet(
        ["reading", "clean", *judged, "L_cl", "L_rb", "diverged"], lines, "Readings of what the paper leaves open"
    )


def _compared(records: VariantRecords, name: str) -> list[str]:
    """The clean accuracy, and the worst case under each protocol with p of its difference from the default."""
    default, texts = find_variant(records, {}), [cell_text(records.grids, "adaptive", name, "none")]
    folders = [
        folder for folder, each in zip(records.folders, records.grids, strict=True) if ("adaptive", name) in each
    ]
    for protocol in COMPARED:
        texts.append(cell_text(records.grids, protocol, name, "worst"))
        if default is None or name == default or not folders:
            texts.append("")
        else:
            texts.append(probability(compared(folders, name, default, protocol).p_value))
    return texts


def _last_losses(records: VariantRecords, name: str, term: str) -> list[float]:
    """A term of eq. 6 in the last epoch of stage I, one value for each seed."""
    last_epochs = [(by_name.get(name) or {}).get("stage_one") or {} for by_name in records.variants]
    return [losses[term] for losses in last_epochs if term in losses]


def _diverged(records: VariantRecords, name: str) -> str:
    count = sum("said" in by_name.get(name, {}) for by_name in records.variants)
    return f"{count} of {sum(name in by_name for by_name in records.variants)}"
