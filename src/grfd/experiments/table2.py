"""Table 2: GRFD under eleven settings of ε, γ and δ, the weights of eq. 6.

Claim: ε = 0.6, γ = 0.4, δ = 0.2 is best: 98.82 % clean and 93.69 % on average over five attacks; without L_rb (δ = 0)
67.92 %. The paper names no protocol; here each row is judged under three of them.
Cost: `grfd reproduce table2 --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce table2 --scale short --seeds 3`. The whole grid of 512 settings: `grfd sweep`.
"""

import statistics
from pathlib import Path

import scipy
from rich.table import Table

from grfd.evaluation.protocols import COMPARED, Protocol
from grfd.evaluation.spread import averages
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.paper import TABLE_2, TABLE_3
from grfd.experiments.records import config_of
from grfd.experiments.variant_records import (
    VariantRecords,
    accuracy_texts,
    accuracy_titles,
    attacks_of,
    committed_variants,
    find_variant,
    shared_opening,
)
from grfd.experiments.variants import FOLDER, SCALES, Variant, read_judged
from grfd.report.sheets import Sheet, markdown, printed, write

__all__ = ["FOLDER", "SCALES", "cells", "section", "show"]

ROWS = [Variant({"epsilon": epsilon, "gamma": gamma, "delta": delta}) for epsilon, gamma, delta in TABLE_2]
"""The rows of the table, in the paper's order."""
_CHOSEN = {"epsilon": 0.6, "gamma": 0.4, "delta": 0.2}
"""The row that the paper chooses, which is also the default."""
_SIGNIFICANT = 0.05
"""Two rankings agree if the p of their correlation is below this."""


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The training and the evaluation of the eleven rows, for each seed."""
    return variants.cells(out, scale, seeds, ROWS, data_dir)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """One table for each protocol, ours / the paper's; also written to table2-PROTOCOL.md, .tex and .csv."""
    records = read_judged(out, scale, seeds)
    sheets = {protocol: _sheet(records, protocol) for protocol in COMPARED}
    for protocol, sheet in sheets.items():
        write(sheet, out / f"table2-{protocol}")
    return [*(printed(sheet) for sheet in sheets.values()), f"written {out / 'table2-*.md'}, .tex and .csv"]


def section(results: Path) -> list[str]:
    """One table for each protocol, and whether our ranking of its rows agrees with the paper's."""
    records = committed_variants(results)
    if records is None:
        return []
    sheets = {protocol: _sheet(records, protocol) for protocol in COMPARED}
    if not any(len(sheet.rows) > 1 for sheet in sheets.values()):
        return []
    parts = [
        shared_opening(records),
        "### Table 2: the weights of eq. 6",
        "`grfd reproduce table2`. Each cell shows our accuracy / the paper's, in per cent.",
    ]
    for protocol, sheet in sheets.items():
        parts += [f"`{protocol}`:", markdown(sheet), _likeness(records, protocol)]
    return parts


def _sheet(records: VariantRecords, protocol: Protocol) -> Sheet:
    """The rows of Table 2, ours / the paper's. The paper has numbers for MNIST only."""
    attacks, on_mnist = attacks_of(records), _is_on_mnist(records)
    published_standard = TABLE_3["mnist"]["standard"] if on_mnist else {}
    standard = _beside(accuracy_texts(records, protocol, "standard"), published_standard, attacks)
    lines = [["standard", "", "", *standard]] if protocol != "transfer" else []
    for (epsilon, gamma, delta), published in TABLE_2.items():
        name = find_variant(records, changes_of_row(epsilon, gamma, delta))
        if name:
            texts = _beside(accuracy_texts(records, protocol, name), published if on_mnist else {}, attacks)
            lines.append([f"{epsilon:g}", f"{gamma:g}", f"{delta:g}", *texts])
    return Sheet(["ε", "γ", "δ", *accuracy_titles(records)], lines, f"Table 2, {protocol}", left=3)


def changes_of_row(epsilon: float, gamma: float, delta: float) -> dict[str, float]:
    """The fields of `Config` that a row changes, compared with the row that the paper chooses."""
    weights = {"epsilon": epsilon, "gamma": gamma, "delta": delta}
    return {name: value for name, value in weights.items() if value != _CHOSEN[name]}


def _is_on_mnist(records: VariantRecords) -> bool:
    return bool(config_of(records.folders[0])["data"] == "mnist")


def _beside(texts: list[str], published: dict[str, float], attacks: list[str]) -> list[str]:
    """Ours / the paper's. The paper's average is taken over the same attacks; it has no worst case."""
    if not published:
        return texts
    average = statistics.mean(published[name] for name in attacks)
    theirs = [published["none"], *(published[name] for name in attacks), average]
    return [f"{text} / {value:.1f}" for text, value in zip(texts, theirs, strict=False)] + texts[-1:]


def _likeness(records: VariantRecords, protocol: Protocol) -> str:
    """Whether our ranking of the rows agrees with the paper's."""
    correlation = rank_correlation(records, protocol)
    if correlation is None or not _is_on_mnist(records):
        return ""
    coefficient, p_value = correlation
    agrees = coefficient > 0 and p_value < _SIGNIFICANT
    return (
        f"Our ranking of the rows {'agrees with' if agrees else 'differs from'} the paper's: Spearman's rank "
        f"correlation of the averages is {coefficient:+.2f} (p = {p_value:.2f})."
    )


def rank_correlation(records: VariantRecords, protocol: Protocol) -> tuple[float, float] | None:
    """Spearman's rank correlation of our averages over the attacks with the paper's, over the rows, and its p.

    None unless all eleven rows are there.
    """
    attacks, ours, theirs = attacks_of(records), [], []
    for weights, published in TABLE_2.items():
        name = find_variant(records, changes_of_row(*weights))
        if name:
            ours.append(statistics.mean(averages(records.grids, protocol, name, attacks)))
            theirs.append(statistics.mean(published[attack] for attack in attacks))
    if len(ours) < len(TABLE_2):
        return None
    correlation = scipy.stats.spearmanr(ours, theirs)
    return float(correlation.statistic), float(correlation.pvalue)
