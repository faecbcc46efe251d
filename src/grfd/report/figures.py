"""Figures, drawn from files of a run folder."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grfd.errors import UserError

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
    paths = [folder / "fig3.png", folder / "fig3.pdf"]
    for path in paths:
        figure.savefig(path, dpi=200, metadata={"CreationDate": None} if path.suffix == ".pdf" else {})
    return paths


def _draw(axis: Axes, image: np.ndarray, black: float) -> None:
    scaled = (np.moveaxis(image, 0, -1) - black) / (1 - black)
    axis.imshow(scaled.squeeze(-1) if scaled.shape[-1] == 1 else scaled, cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.4)
