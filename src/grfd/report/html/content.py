"""What a report consists of, as plain records: everything is text or numbers, ready for the page."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class HtmlCell:
    """One cell of a table. `name`: what a test or a script finds it by, such as model/protocol/attack; may be empty."""

    text: str
    detail: str = ""
    name: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """A table. `words`: how many of its first columns are text; the others are numbers and aligned to the right."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[HtmlCell, ...], ...]
    words: int = 1
    note: str = ""


@dataclass(frozen=True)
class HtmlChart:
    """A chart as a Vega-Lite specification. `table`: the same numbers for those who cannot see the chart."""

    name: str
    title: str
    text: str
    spec: dict[str, Any]
    table: HtmlTable


@dataclass(frozen=True)
class RaisedFlag:
    """A check for gradient masking that raised a flag: what was measured, what it means, what to do about it."""

    model: str
    name: str
    detail: str
    meaning: str
    advice: str


@dataclass(frozen=True)
class RunPart:
    """One run in a report."""

    title: str
    verdict: str
    protocols: tuple[tuple[str, str], ...]
    tables: tuple[HtmlTable, ...]
    flags: tuple[RaisedFlag, ...]
    checks: int
    charts: tuple[HtmlChart, ...]
    settings: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class ExplorerPart:
    """The explorer of examples. `data`: what its script reads; `notes`: sentences on what is left out, and why."""

    data: dict[str, Any]
    sprite: str
    examples: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportContent:
    """A whole report. `across`: tables over all runs, with one run only the matrix of transfer, if it is known."""

    title: str
    verdict: str
    runs: tuple[RunPart, ...]
    explorer: ExplorerPart
    across: tuple[HtmlTable, ...] = field(default=())
