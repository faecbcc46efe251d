"""One table of texts in several formats: Markdown, LaTeX (booktabs), CSV (comma-separated values) and the terminal."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from grfd import runs


@dataclass(frozen=True)
class Sheet:
    """The texts of a table. The first `left` columns hold words, the others numbers."""

    header: list[str]
    rows: list[list[str]]
    title: str = ""
    left: int = 1


def markdown(sheet: Sheet) -> str:
    """A table in GitHub's Markdown, without the title."""
    ruler = ["---" if index < sheet.left else "---:" for index in range(len(sheet.header))]
    return "\n".join(_line(texts) for texts in [sheet.header, ruler, *sheet.rows])


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def plain_csv(sheet: Sheet) -> str:
    """Comma-separated values with a header."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([sheet.header, *sheet.rows])
    return out.getvalue()


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
         "±": r"$\pm$", "–": "--", "ε": r"$\varepsilon$", "γ": r"$\gamma$", "δ": r"$\delta$", "σ": r"$\sigma$",
         "μ": r"$\mu$", "β": r"$\beta$", "α": r"$\alpha$", "∇": r"$\nabla$", "ψ": r"$\psi$", "φ": r"$\phi$",
         "×": r"$\times$", "`": "", "−": r"$-$"}  # fmt: skip
"""Character → how it is written in LaTeX."""


def latex(sheet: Sheet) -> str:
    r"""A `tabular` with the rules of booktabs (\usepackage{booktabs})."""
    columns = "l" * sheet.left + "r" * (len(sheet.header) - sheet.left)
    lines = [_row(texts) for texts in sheet.rows]
    title = [f"% {sheet.title}"] if sheet.title else []
    opening = [*title, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(sheet.header), r"\midrule"]
    return "\n".join([*opening, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _row(texts: list[str]) -> str:
    return " & ".join("".join(_LATEX.get(letter, letter) for letter in text) for text in texts) + r" \\"


def printed(sheet: Sheet) -> Table:
    """A table for the terminal."""
    table = Table(title=sheet.title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)  # fmt: skip
    for index, name in enumerate(sheet.header):
        words = index < sheet.left  # names must not be cut short, but headers may be broken into lines
        table.add_column(name, justify="left" if words else "right", no_wrap=words)
    for texts in sheet.rows:
        table.add_row(*texts)
    return table


def write(sheet: Sheet, path: Path) -> list[Path]:
    """Writes `path` with the suffixes .md, .tex and .csv, and returns the three paths."""
    formats = {".md": markdown(sheet) + "\n", ".tex": latex(sheet), ".csv": plain_csv(sheet)}
    for suffix, text in formats.items():
        runs.write_bytes(path.with_name(path.name + suffix), text.encode())
    return [path.with_name(path.name + suffix) for suffix in formats]
