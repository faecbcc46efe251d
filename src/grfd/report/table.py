"""The table of a run, for a terminal."""

from rich import box
from rich.table import Table

from grfd.evaluation.numbers import columns, grid, narrow_model_titles, narrow_titles, usual
from grfd.evaluation.results import Row


def cell(row: Row | None, images: int) -> str:
    """The accuracy in per cent, followed by the number of images if it differs from `images`, that of the line."""
    if row is None:
        return "–"
    low, high = row.interval
    text = f"{100 * row.accuracy:.1f} [{100 * low:.0f}, {100 * high:.0f}]"
    return text + (f" ({row.examples:,})" if row.examples != images else "")


def with_interval(row: Row) -> str:
    """The accuracy in per cent, and below it the ends of its 95 % interval in whole per cent."""
    low, high = row.interval
    return f"{100 * row.accuracy:.1f}\n{100 * low:.0f}–{100 * high:.0f}"


TITLE = "Accuracy in per cent with 95 % intervals, by what the attacker knows"


def results_table(numbers: list[Row], published: dict[str, dict[str, float]], title: str = TITLE) -> Table:
    """A table for the terminal. `published`: lines of the paper, printed below ours: name → attack → per cent."""
    attacks = columns(numbers)
    table = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    own = {name: name.replace(":", ":\n") for name in attacks if ":" in name}
    titles = own | narrow_titles()
    for name in ("protocol", "model", *(titles[name] for name in attacks), "images"):
        table.add_column(name, justify="left" if name in ("protocol", "model") else "right")
    last = ""
    for (protocol, model), cells in grid(numbers).items():
        if last and protocol != last:
            table.add_section()
        images = usual(cells)
        texts = [_text(cells.get(name), images) for name in attacks]
        style = "bold" if protocol == "adaptive" else ""
        label = protocol if protocol != last else ""
        table.add_row(label, narrow_model_titles().get(model, model), *texts, f"{images:,}", style=style)
        last = protocol
    if published:
        table.add_section()
    for method, accuracies in published.items():
        texts = [f"{accuracies[name]:.1f}" if name in accuracies else "–" for name in attacks]
        table.add_row("paper: ?", method, *texts, "10,000", style="dim")
    return table


def _text(row: Row | None, images: int) -> str:
    """A cell of the terminal's table: narrow, so that the table fits 80 columns."""
    if row is None:
        return "–"
    count = "" if row.examples == images else f"\n({row.examples:,})".replace(",000)", "k)")
    return with_interval(row) + count
