"""Figure 2: latent variables with and without the rectification head, from latents.npz of each seed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from grfd.evaluation.spread import spread
from grfd.report.sheets import Sheet
from grfd.report.style import PAGE, saved, styled

LATENTS = "latents.npz"
KINDS = {"with": "with the head (ε = 0.6)", "without": "without it (ε = 0)"}
PLANES = {"pca": "PCA", "tsne": "t-SNE"}
NUMBERS = {"silhouette": "silhouette", "probe": "linear probe, %", "neighbours": "10 nearest neighbours, %"}


def figure_2(folders: Sequence[Path]) -> Sheet:
    """Silhouette, linear probe and nearest neighbours, with and without the head, over seeds."""
    lines = []
    for kind, label in KINDS.items():
        found = [_stored(folder) for folder in folders]
        silhouette = spread([float(each[f"{kind}.silhouette"]) for each in found], 3)
        others = [spread([100 * float(each[f"{kind}.{name}"]) for each in found]) for name in ("probe", "neighbours")]
        lines.append([label, silhouette, *others])
    return Sheet(["latent variables", *NUMBERS.values()], lines, "Figure 2")


def draw_figure_2(folder: Path, path: Path) -> list[Path]:
    """Four scatter plots, a colour a class, whose name stands at its middle. Writes `path` as .png and .pdf."""
    arrays = _stored(folder)
    labels, colours = arrays["labels"], colormaps["tab10"].colors  # type: ignore[attr-defined]
    with styled():
        figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
        axes = figure.subplots(1, 4)
        places = [(plane, kind) for plane in PLANES for kind in KINDS]
        for axis, (plane, kind) in zip(axes, places, strict=True):
            points = arrays[f"{kind}.{plane}"]
            for label in np.unique(labels):
                mine = labels == label
                axis.scatter(*points[mine].T, s=1.2, color=colours[int(label) % 10], label=str(label), linewidths=0,
                             rasterized=True)  # fmt: skip
                axis.text(*np.median(points[mine], 0), str(label), fontsize=7, weight="bold", ha="center", va="center")
            axis.set_title(f"{PLANES[plane]}, {KINDS[kind]}", fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=10, markerscale=4,
                      handletextpad=0.1)  # fmt: skip
        return saved(figure, path)


def _stored(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / LATENTS, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
