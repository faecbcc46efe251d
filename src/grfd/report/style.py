"""The style of all figures, and how they are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

_STYLE = Path(__file__).with_name("grfd.mplstyle")
COLUMN = 3.4
"""Width of a column of a two-column paper, in inches."""
PAGE = 7.0
"""Width of both columns, in inches."""


@contextmanager
def styled() -> Iterator[None]:
    """Within this context, figures have the project's style. Afterwards the caller's settings are restored."""
    with matplotlib.style.context(_STYLE):
        yield


def saved(figure: Figure, path: Path) -> list[Path]:
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
