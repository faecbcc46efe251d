"""The table of a run: robust accuracy by model, protocol and attack, from the records alone."""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from grfd.attacks import THREATS
from grfd.evaluate.protocols import PROTOCOLS
from grfd.evaluate.records import Record, stored, worst_case
from grfd.report.paper import NAMES as PAPER_NAMES
from grfd.report.paper import TABLE_3

NAMES = {"none": "clean", "fgsm": "FGSM", "pgd": "PGD", "aa": "AA", "eotpgd": "EOTPGD", "vmifgsm": "VMIFGSM",
         "aa_torchattacks": "AA (TorchAttacks)", "apgd_ce": "APGD-CE",
         "apgd_dlr": "APGD-DLR", "apgd_t": "APGD-T", "fab": "FAB", "fab_t": "FAB-T", "square": "Square", "bim": "BIM",
         "rfgsm": "R+FGSM", "mifgsm": "MI-FGSM", "cw": "C&W (L2)", "pixle": "Pixle", "hmcam": "HMCAM",
         "advgan": "AdvGAN", "worst": "worst case"}  # fmt: skip
DATA_NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
MODEL_NAMES = {"standard": "standard", "second-standard": "2nd standard", "bit-depth": "B-DR",
               "bit-depth-retrained": "B-DR, retrained", "feature-squeezing": "F.S.",
               "squeeze-detector": "F.S., detector", "cd-vae": "CD-VAE",
               "randomized-smoothing": "R.S.", "gradient-regularisation": "G.R.", "ape-gan": "APE-GAN",
               "diffpure": "DiffPure-DDPM (small)", "grfd": "GRFD",
               "grfd-robust": "GRFD, robust", "pgd-at": "PGD-AT", "trades": "TRADES", "cure": "CURE"}  # fmt: skip
"""In the order of the paper's Table 3, then ours, then the yardsticks that it leaves out."""
NARROW = {"diffpure": "DiffPure-\nDDPM (small)"}
HEADERS = {"eotpgd": "EOT-\nPGD", "vmifgsm": "VMI-\nFGSM", "worst": "worst\ncase"}
"""Narrower, so that the table fits eighty columns."""


@dataclass(frozen=True)
class Row:
    """One number. `attack` "none" is clean accuracy, "worst" the share right under every attack of one threat model."""

    model: str
    protocol: str
    attack: str
    examples: int
    accuracy: float


def rows(folder: Path) -> list[Row]:
    """All numbers of a run folder, in the order in which they are printed."""
    groups: dict[tuple[str, str], dict[str, Record]] = {}
    for (model, protocol, attack), record in stored(folder).items():
        groups.setdefault((model, protocol), {})[attack] = record
    known = [(model, protocol) for protocol in PROTOCOLS for model in MODEL_NAMES]
    order = [*known, *(key for key in groups if key not in known)]
    return [row for key in order if key in groups for row in _rows(*key, groups[key])]


def _rows(model: str, protocol: str, group: dict[str, Record]) -> list[Row]:
    longest = max(group.values(), key=len)
    worst = worst_case([group[attack] for attack in of_one_threat(list(group))])
    ordered = [name for name in NAMES if name in group]
    return [
        Row(model, protocol, "none", len(longest), float(longest.clean.mean())),
        *(Row(model, protocol, name, len(group[name]), float(group[name].robust.mean())) for name in ordered),
        Row(model, protocol, "worst", len(worst), float(worst.mean())),
    ]


def of_one_threat(attacks: list[str]) -> list[str]:
    """Those of the attacks that share a worst case: all in L∞, or where there is none, all of the first one's kind.

    A perturbation that is bounded by its Euclidean length, or only by the pixels that it moves, says nothing about an
    ε in L∞, nor that about it.
    """
    threats = {name: THREATS.get(name, "linf") for name in attacks}
    shared = "linf" if "linf" in threats.values() else threats[attacks[0]]
    return [name for name in attacks if threats[name] == shared]


def results(folder: Path, checks: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The content of results.json, and of `grfd show --json`."""
    return {"rows": [asdict(row) for row in rows(folder)], "checks": checks}


def grid(numbers: list[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """(protocol, model) → attack → number."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in numbers:
        found.setdefault((row.protocol, row.model), {})[row.attack] = row
    return found


def columns(numbers: list[Row]) -> list[str]:
    """The attacks that some row has, in the paper's order, between "none" and "worst"."""
    return [name for name in NAMES if any(row.attack == name for row in numbers)]


def usual(cells: dict[str, Row]) -> int:
    """How many images most numbers of a line are of."""
    return statistics.mode(row.examples for row in cells.values())


def cell(row: Row | None, images: int) -> str:
    """Per cent; behind it how many images, where that is not what the rest of the line has."""
    if row is None:
        return "–"
    return f"{100 * row.accuracy:.1f}" + (f" ({row.examples:,})" if row.examples != images else "")


def printed(numbers: list[Row], dataset: str) -> Table:
    """A table for the terminal."""
    shown = columns(numbers)
    title = "Accuracy in per cent, by what the attacker knows"
    table = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("protocol", "model", *(HEADERS.get(name, NAMES[name]) for name in shown), "images"):
        table.add_column(name, justify="left" if name in ("protocol", "model") else "right")
    last = ""
    for (protocol, model), cells in grid(numbers).items():
        if last and protocol != last:
            table.add_section()
        images = usual(cells)
        texts = [cell(cells.get(name), images).replace(" ", "\n").replace(",000)", "k)") for name in shown]
        style = "bold" if protocol == "adaptive" else ""
        label = protocol if protocol != last else ""
        table.add_row(label, NARROW.get(model, MODEL_NAMES.get(model, model)), *texts, f"{images:,}", style=style)
        last = protocol
    table.add_section()
    for method, accuracies in published(numbers, dataset).items():
        texts = [f"{accuracies[name]:.1f}" if name in accuracies else "–" for name in shown]
        table.add_row("paper: ?", method, *texts, "10,000", style="dim")
    return table


def published(numbers: list[Row], dataset: str) -> dict[str, dict[str, float]]:
    """The paper's rows of Table 3 for the models that are there, under the paper's names."""
    there = {row.model for row in numbers}
    found = {model: row for model, row in TABLE_3.get(dataset, {}).items() if model in there}
    return {PAPER_NAMES.get(model, MODEL_NAMES[model]): row for model, row in found.items()}
