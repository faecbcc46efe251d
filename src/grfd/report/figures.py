"""Figures of images and curves, drawn from the arrays in a run folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grfd.errors import UserError
from grfd.evaluation.numbers import model_titles
from grfd.report.style import COLUMN, new_figure, saved, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """One image [height, width, 3] in [0, 1], and the text above it."""

    image: np.ndarray
    text: str
    colour: str


@dataclass(frozen=True)
class Line:
    """Panels side by side, with their label on the left."""

    label: str
    panels: list[Panel]


_FIGURE_3_ROWS = {
    "images": "$x$",
    "redundant": "$x_u = G(x)$",
    "robust": "$x_r = x - x_u$",
    "transferred": "$x'$ made on\nthe standard model",
    "adversarial": "$x'$ made on\nGRFD, end to end",
    "adversarial_robust": "$x'_r$ of the\nrow above",
}
"""Name of the array in examples.npz → label, as published."""
_EXCHANGED_ROWS = _FIGURE_3_ROWS | {"redundant": "$x_u = x - x_r$", "robust": "$x_r = G(x)$"}
"""The same where G(x) is the robust part, so that the redundant one has negative values."""


def figure_3(folder: Path) -> list[Path]:
    """Draws fig3.png and fig3.pdf of a run folder. Raises `UserError` if examples.npz is missing."""
    source = folder / "examples.npz"
    if not source.exists():
        raise UserError(f"{source} is not there: run grfd evaluate first")
    return draw_examples(source, folder / "fig3")


def draw_examples(source: Path, drawn: Path) -> list[Path]:
    """Draws x, x_u and x_r as in the paper's Fig. 3, with adversarial examples below. Writes `drawn` as .png and .pdf.

    The prediction is printed above each image, in red if it is wrong. Grey scales are fixed: parts with negative values
    from −1 to 1, everything else from 0 to 1.
    """
    with np.load(source, allow_pickle=False) as stored:
        examples = {name: stored[name] for name in stored.files}
    lines = []
    for name, title in (_EXCHANGED_ROWS if examples["redundant"].min() < 0 else _FIGURE_3_ROWS).items():
        black = -1.0 if examples[name].min() < 0 else 0.0
        predictions = examples.get(f"{name}_prediction", [None] * len(examples["labels"]))
        columns = zip(examples[name], predictions, examples["labels"], strict=True)
        panels = [Panel(_scaled(image, black), *_caption(prediction, label)) for image, prediction, label in columns]
        lines.append(Line(title, panels))
    return saved(_mosaic(lines), drawn)


_GALLERY_COLUMNS = ("$x$", "shown", "$x'$", "shown")
"""The columns of the gallery for each image: the image, what the classifier sees of it, and the same after PGD."""


def gallery(folder: Path) -> list[Path]:
    """Draws what each defense makes of x and of x′ (PGD, end to end). Writes gallery.png and gallery.pdf.

    The prediction is printed above each image, in red if it is wrong, as "–" if the image was rejected. Images that
    can leave [0, 1] are drawn from −1 to 1. Raises `UserError` if gallery.npz is missing.
    """
    source = folder / "gallery.npz"
    if not source.exists():
        raise UserError(f"{source} is not there: run grfd evaluate first")
    with np.load(source, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    names = [name for name in model_titles() if f"{name}.seen" in arrays]
    count = len(arrays["labels"])
    lines = [
        Line(model_titles()[name], [panel for index in range(count) for panel in _four(arrays, name, index)])
        for name in names
    ]
    return saved(_mosaic(lines, count * _GALLERY_COLUMNS), folder / "gallery")


def _four(arrays: dict[str, np.ndarray], name: str, index: int) -> list[Panel]:
    """x, what the classifier sees of it, x′, and what it sees of that."""
    panels = []
    for kind, predictions in (
        ("images", None),
        (f"{name}.seen", f"{name}.prediction"),
        (f"{name}.adversarial", None),
        (f"{name}.adversarial_seen", f"{name}.adversarial_prediction"),
    ):
        image = _scaled(arrays[kind][index], -1.0 if arrays[kind].min() < -0.01 else 0.0)
        prediction = arrays[predictions][index] if predictions else None
        panels.append(Panel(image, *_caption(prediction, arrays["labels"][index])))
    return panels


def certified_curve(certified: dict[float, float], empirical: dict[float, float], path: Path) -> list[Path]:
    """Draws the certified accuracy and the accuracy under an L2 attack over the Euclidean radius.

    Both map a radius, in pixels of [0, 1], to a share of images. Writes `path` as .png and .pdf.
    """
    with styled():
        figure = new_figure(COLUMN, 2.4)
        axis = figure.subplots()
        axis.step(list(certified), [100 * share for share in certified.values()], where="pre", label="certified")
        axis.plot(list(empirical), [100 * share for share in empirical.values()], "o--",
                  label="under attack (PGD, EOT)")  # fmt: skip
        axis.set_xlabel("Euclidean radius, pixels in [0, 1]")
        axis.set_ylabel("accuracy, per cent")
        axis.set_ylim(0, 101)
        axis.set_xlim(0, None)
        axis.legend()
        return saved(figure, path)


def _caption(prediction: int | None, label: int) -> tuple[str, str]:
    """The text above a panel, and its colour: red if the prediction is wrong, "–" if the image was rejected (−1)."""
    if prediction is None or prediction == -1:
        return ("" if prediction is None else "–"), "#333333"
    return str(prediction), "#333333" if prediction == label else "#c1272d"


def _scaled(image: np.ndarray, black: float) -> np.ndarray:
    """[channel, height, width] as [height, width, 3] in [0, 1], `black` drawn black and 1 white."""
    pixels = np.moveaxis((image - black) / (1 - black), 0, -1).clip(0, 1)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _mosaic(lines: list[Line], feet: Sequence[str] = ()) -> "Figure":
    """All panels in one axis, because one axis for each panel takes seconds to lay out.

    `feet`: the texts below the columns.
    """
    height, width = lines[0].panels[0].image.shape[:2]
    above, between = round(0.42 * height), round(0.12 * width)
    columns = len(lines[0].panels)
    canvas = np.ones((len(lines) * (height + above), columns * (width + between), 3))
    figure = new_figure(0.62 * columns + 1.5, 0.62 * len(lines) * (1 + above / height) + 0.3)
    axis = figure.subplots()
    for row, line in enumerate(lines):
        top = row * (height + above) + above
        axis.text(-between, top + height / 2, line.label, ha="right", va="center", fontsize=8)
        for column, panel in enumerate(line.panels):
            left = column * (width + between)
            canvas[top : top + height, left : left + width] = panel.image
            axis.text(left + width / 2, top - 0.08 * height, panel.text, ha="center", fontsize=7, color=panel.colour)
    for column, foot in enumerate(feet):
        middle = column * (width + between) + width / 2
        axis.text(middle, len(canvas) + 0.1 * height, foot, ha="center", va="top", fontsize=7)
    axis.imshow(canvas, interpolation="nearest")
    axis.set_axis_off()
    return figure
