"""Table 2: GRFD under eleven settings of ε, γ and δ, the weights of eq. 6.

Claim: ε = 0.6, γ = 0.4, δ = 0.2 is best: 98.82 % clean and 93.69 % on average over five attacks; without L_rb (δ = 0)
67.92 %. The paper names no protocol; here each row is judged under each of them.
Cost: `grfd reproduce table2 --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce table2 --scale short --seeds 3`. The whole grid of 512 settings: `grfd sweep`.
"""

from pathlib import Path

from rich.table import Table

from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.paper import TABLE_2
from grfd.experiments.variant_numbers import PROTOCOLS, table_2
from grfd.experiments.variants import FOLDER, SCALES, Variant, judged
from grfd.report.sheets import printed, write

__all__ = ["FOLDER", "SCALES", "cells", "show"]

ROWS = [Variant({"epsilon": epsilon, "gamma": gamma, "delta": delta}) for epsilon, gamma, delta in TABLE_2]


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """Training of the eleven rows, and their judgement, seed by seed."""
    return variants.cells(out, scale, seeds, ROWS, data_dir)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """A table a protocol, ours / the paper's; the same in table2-PROTOCOL.md, .tex and .csv."""
    sheets = {protocol: table_2(judged(out, scale, seeds), protocol) for protocol in PROTOCOLS}
    for protocol, sheet in sheets.items():
        write(sheet, out / f"table2-{protocol}")
    return [*(printed(sheet) for sheet in sheets.values()), f"written {out / 'table2-*.md'}, .tex and .csv"]
