"""Figures, drawn from files of a run folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grfd.errors import UserError
from grfd.report.table import MODEL_NAMES

ROWS = (
    ("images", "$x$", 0.0),
    ("redundant", "$x_u = G(x)$", 0.0),
    ("robust", "$x_r = x - x_u$", -1.0),
    ("transferred", "$x'$ made on\nthe standard model", 0.0),
    ("adversarial", "$x'$ made on\nGRFD, end to end", 0.0),
    ("adversarial_robust", "$x'_r$ of the\nrow above", -1.0),
)
"""Array in examples.npz, label, and the value that is drawn black; white is 1 everywhere."""


def figure_3(folder: Path) -> list[Path]:
    """Like the paper's Fig. 3: x, x_u and x_r, with adversarial examples beneath. Writes fig3.png and fig3.pdf.

    Predictions stand above each image, red where they are wrong. Grey scales are fixed: x_r from −1 to 1, the
    others from 0 to 1. Raises `UserError` where examples.npz is not there.
    """
    source = folder / "examples.npz"
    if not source.exists():
        raise UserError(f"{source} is not there: run grfd evaluate first")
    with np.load(source, allow_pickle=False) as stored:
        examples = {name: stored[name] for name in stored.files}
    count = len(examples["labels"])
    figure = Figure(figsize=(0.72 * count + 1.5, 0.86 * len(ROWS)), layout="constrained")
    axes = figure.subplots(len(ROWS), count, squeeze=False)
    for line, (name, label, black) in zip(axes, ROWS, strict=True):
        for column, axis in enumerate(line):
            _draw(axis, examples[name][column], black)
            prediction = examples.get(f"{name}_prediction")
            if prediction is not None:
                wrong = prediction[column] != examples["labels"][column]
                axis.set_title(str(prediction[column]), fontsize=7, pad=2, color="#c1272d" if wrong else "#333333")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    return _saved(figure, folder / "fig3")


PANELS = ("$x$", "shown", "$x'$", "shown")
"""What the gallery shows of each image: itself, what the classifier is shown of it, and both after PGD."""


def gallery(folder: Path) -> list[Path]:
    """What each defense makes of x and of x′ (PGD, end to end, on that defense). Writes gallery.png and gallery.pdf.

    Predictions stand above, red where wrong, "–" where there is none (rejected). What may leave [0, 1] is drawn from
    −1 to 1.
    Raises `UserError` where gallery.npz is not there.
    """
    source = folder / "gallery.npz"
    if not source.exists():
        raise UserError(f"{source} is not there: run grfd evaluate first")
    with np.load(source, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    names = [name for name in MODEL_NAMES if f"{name}.seen" in arrays]
    count = len(arrays["labels"])
    figure = Figure(figsize=(0.55 * count * len(PANELS) + 1.4, 0.72 * len(names) + 0.3), layout="constrained")
    axes = figure.subplots(len(names), count * len(PANELS), squeeze=False)
    for line, name in zip(axes, names, strict=True):
        for index in range(count):
            _draw_four(line[index * len(PANELS) :][: len(PANELS)], arrays, name, index)
        line[0].set_ylabel(MODEL_NAMES[name], rotation=0, ha="right", va="center", fontsize=7)
    for column, axis in enumerate(axes[-1]):
        axis.set_xlabel(PANELS[column % len(PANELS)], fontsize=7)
    return _saved(figure, folder / "gallery")


def _draw_four(line: Sequence[Axes], arrays: dict[str, np.ndarray], name: str, index: int) -> None:
    label = arrays["labels"][index]
    kinds = ("images", f"{name}.seen", f"{name}.adversarial", f"{name}.adversarial_seen")
    for axis, kind in zip(line, kinds, strict=True):
        leaves = arrays[kind].min() < -0.01
        _draw(axis, arrays[kind][index], -1.0 if leaves else 0.0)
    for axis, kind in ((line[1], "prediction"), (line[3], "adversarial_prediction")):
        found = arrays[f"{name}.{kind}"][index]
        colour = "#333333" if found in (label, -1) else "#c1272d"
        axis.set_title("–" if found == -1 else str(found), fontsize=7, pad=2, color=colour)


def certified_curve(certified: dict[float, float], empirical: dict[float, float], path: Path) -> list[Path]:
    """Certified accuracy over the Euclidean radius, and what an L2 attack of that radius leaves, in one axis.

    Both map radius, in pixels of [0, 1], to a share of images. Writes `path` as .png and .pdf.
    """
    figure = Figure(figsize=(3.4, 2.4), layout="constrained")
    axis = figure.subplots()
    axis.step(list(certified), [100 * share for share in certified.values()], where="post", color="#0072b2",
              label="certified")  # fmt: skip
    axis.plot(list(empirical), [100 * share for share in empirical.values()], "o--", color="#d55e00", markersize=4,
              label="under attack (PGD, EOT)")  # fmt: skip
    axis.set_xlabel("Euclidean radius, pixels in [0, 1]", fontsize=8)
    axis.set_ylabel("accuracy, per cent", fontsize=8)
    axis.set_ylim(0, 101)
    axis.set_xlim(0, None)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)
    return _saved(figure, path)


def _saved(figure: Figure, path: Path) -> list[Path]:
    paths = [path.with_suffix(".png"), path.with_suffix(".pdf")]
    for each in paths:
        figure.savefig(each, dpi=200, metadata={"CreationDate": None} if each.suffix == ".pdf" else {})
    return paths


def _draw(axis: Axes, image: np.ndarray, black: float) -> None:
    scaled = (np.moveaxis(image, 0, -1) - black) / (1 - black)
    axis.imshow(scaled.squeeze(-1) if scaled.shape[-1] == 1 else scaled, cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.4)
