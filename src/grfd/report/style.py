"""The style of all figures, and how they are written.

matplotlib is imported only where something is drawn: its import takes about half a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = Path(__file__).with_name("grfd.mplstyle")
COLUMN = 3.4
"""Width of a column of a two-column paper, in inches."""
PAGE = 7.0
"""Width of both columns, in inches."""


@contextmanager
def styled() -> Iterator[None]:
    """Within this context, figures have the project's style. Afterwards the caller's settings are restored."""
    import matplotlib.style

    with matplotlib.style.context(_STYLE):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches, laid out so that its parts do not overlap."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def saved(figure: "Figure", path: Path) -> list[Path]:
    """Writes `path` as .png and .pdf, without a date, so that the same numbers give the same files."""
    paths = [path.with_suffix(".png"), path.with_suffix(".pdf")]
    for each in paths:
        figure.savefig(
            each,
            dpi=200,
            bbox_inches="tight",
            pad_inches=0.03,
            metadata={"CreationDate": None} if each.suffix == ".pdf" else {},
        )
    return paths
