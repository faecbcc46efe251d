"""Figure 2: the latent variables with and without the rectification head.

Claim: the head separates the classes in the latent space. Here this is measured by the silhouette of the classes and
the accuracies of a linear probe and of the 10 nearest neighbours (trained on μ of 5,000 training images, tested on
2,000 test images), and drawn as scatter plots (PCA, principal component analysis, and t-SNE, t-distributed stochastic
neighbour embedding).
Cost: `grfd reproduce fig2 --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce fig2 --scale short --seeds 3`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from grfd import runs
from grfd.api.job import load_data, write_npz
from grfd.config import Config
from grfd.data.record import Split, as_images
from grfd.evaluation.spread import spread
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.variant_records import committed_folders, committed_variants, shared_opening
from grfd.experiments.variants import (
    FOLDER,
    JUDGED_VARIANTS,
    SCALES,
    Variant,
    schedule_of,
    variant_config,
    variant_name,
    variants_folder,
)
from grfd.method.stages import load_generator
from grfd.report.sheets import Sheet, markdown, printed, write
from grfd.report.style import PAGE, new_figure, saved, styled

__all__ = ["FOLDER", "SCALES", "cells", "draw", "section", "show"]

LATENTS_FILE = "latents.npz"
"""What `measure_latents` writes beside the records of a seed."""
_COMPARED = {"with": Variant(), "without": Variant({"epsilon": 0.0})}
_LABELS = {"with": "with the head (ε = 0.6)", "without": "without it (ε = 0)"}
_PLANES = {"pca": "PCA", "tsne": "t-SNE"}
_PROBED, _PLOTTED, _NEIGHBOURS = 5000, 2000, 10


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The training with and without the head, and the measurement of the latent variables, for each seed."""
    schedule, todo = schedule_of(scale, data_dir), []
    for seed in range(seeds):
        folder = variants_folder(out, scale, seed)
        names = {kind: variant_name(schedule, variant) for kind, variant in _COMPARED.items()}
        measured = folder / JUDGED_VARIANTS / LATENTS_FILE
        for kind, variant in _COMPARED.items():
            path, config = folder / names[kind], variant_config(schedule, seed, variant)
            done, do = partial(_is_done_with, path, measured), partial(variants.train_variant, path, config)
            todo.append(Cell(f"seed {seed}: train {names[kind]}", done, do, independent=True))
        do = partial(measure_latents, folder, names, variant_config(schedule, seed, Variant()))
        todo.append(Cell(f"seed {seed}: latent variables", measured.exists, do))
    return todo


def _is_done_with(path: Path, measured: Path) -> bool:
    """Whether the network is trained, or everything that is measured of it is there."""
    return variants.is_trained(path) or measured.exists()


def measure_latents(folder: Path, names: dict[str, str], config: Config) -> None:
    """Writes latents.npz: labels, and for each kind its PCA and t-SNE plane [images, 2] and its three numbers."""
    from sklearn.decomposition import PCA  # takes a second to import, which not every command should
    from sklearn.manifold import TSNE

    arrays: dict[str, np.ndarray] = {}
    for kind, name in names.items():
        run = runs.load(folder / name)
        data = load_data(run)
        generator = load_generator(run, data)
        plotted, probed = data.test.take(_PLOTTED), data.train.take(_PROBED)
        latents, known = _means(generator, plotted), _means(generator, probed)
        arrays["labels"] = plotted.labels.numpy()
        arrays[f"{kind}.pca"] = PCA(2, random_state=config.seed).fit_transform(latents)
        arrays[f"{kind}.tsne"] = TSNE(2, random_state=config.seed, init="pca").fit_transform(latents)
        arrays |= {f"{kind}.{key}": np.array(value) for key, value in
                   _numbers(latents, plotted, known, probed).items()}  # fmt: skip
    judged = runs.create(folder / JUDGED_VARIANTS, config)
    write_npz(judged.path / LATENTS_FILE, arrays)


@torch.no_grad()
def _means(generator: torch.nn.Module, split: Split) -> np.ndarray:
    """μ of every image, [images, latent]."""
    parts = [generator.encode(as_images(part))[0] for part in split.images.split(1000)]  # type: ignore[operator]
    return torch.cat(parts).numpy()


def _numbers(latents: np.ndarray, plotted: Split, known: np.ndarray, probed: Split) -> dict[str, float]:
    """The silhouette in [−1, 1], and the two accuracies as shares."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    near = KNeighborsClassifier(_NEIGHBOURS)
    labels, known_labels = plotted.labels.numpy(), probed.labels.numpy()
    return {
        "silhouette": float(silhouette_score(latents, labels)),
        "probe": float(probe.fit(known, known_labels).score(latents, labels)),
        "neighbours": float(near.fit(known, known_labels).score(latents, labels)),
    }


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers over seeds, and fig2.png and .pdf of the first seed."""
    folders = [variants_folder(out, scale, seed) / JUDGED_VARIANTS for seed in range(seeds)]
    sheet = latents_sheet(folders, _LABELS)
    write(sheet, out / "fig2")
    return [printed(sheet), f"drawn {_draw(folders[0], out / 'fig2')[0]}"]


def section(results: Path) -> list[str]:
    """The numbers over seeds and the figure of the first seed."""
    folders, records = _committed(results), committed_variants(results)
    if not folders or records is None:
        return []
    return [
        shared_opening(records),
        "### Figure 2: the latent variables with and without the rectification head",
        "`grfd reproduce fig2`. On the means μ of the latent variables of 2,000 test images: the silhouette of the "
        "classes, and the accuracies of a linear probe and of the 10 nearest neighbours, both trained on μ of 5,000 "
        "training images. The figure shows the planes of a principal component analysis (PCA) and of t-SNE "
        "(t-distributed stochastic neighbour embedding).",
        markdown(latents_sheet(folders, _LABELS)),
        "![Latent variables, PCA and t-SNE](fig2.png)",
    ]


def draw(results: Path, docs: Path) -> list[Path]:
    """fig2.png and .pdf of the first seed."""
    folders = _committed(results)
    return _draw(folders[0], docs / "fig2") if folders else []


def _committed(results: Path) -> list[Path]:
    return [folder for folder in committed_folders(results) if (folder / LATENTS_FILE).exists()]


def silhouettes(results: Path) -> tuple[list[float], list[float]] | None:
    """The silhouettes of the classes without and with the head, one of each seed; None if none are committed."""
    stored = [_stored(folder) for folder in _committed(results)]
    without, whole = ([float(each[f"{kind}.silhouette"]) for each in stored] for kind in ("without", "with"))
    return (without, whole) if stored else None


def latents_sheet(folders: Sequence[Path], labels: Mapping[str, str]) -> Sheet:
    """The silhouette, the linear probe and the nearest neighbours over seeds, a line for each kind of training."""
    lines = []
    for kind, label in labels.items():
        arrays = [_stored(folder) for folder in folders]
        silhouette = spread([float(each[f"{kind}.silhouette"]) for each in arrays], 3)
        others = [spread([100 * float(each[f"{kind}.{name}"]) for each in arrays]) for name in ("probe", "neighbours")]
        lines.append([label, silhouette, *others])
    header = ["latent variables", "silhouette", "linear probe, %", "10 nearest neighbours, %"]
    return Sheet(header, lines, "Figure 2")


def _draw(folder: Path, path: Path) -> list[Path]:
    """Four scatter plots with one colour for each class and its name in the middle. Writes `path` as .png and .pdf."""
    from matplotlib import colormaps

    arrays = _stored(folder)
    labels, colours = arrays["labels"], colormaps["tab10"].colors  # type: ignore[attr-defined]
    with styled():
        figure = new_figure(PAGE, 2.1)
        axes = figure.subplots(1, 4)
        panels = [(plane, kind) for plane in _PLANES for kind in _LABELS]
        for axis, (plane, kind) in zip(axes, panels, strict=True):
            points = arrays[f"{kind}.{plane}"]
            for label in np.unique(labels):
                of_class = labels == label
                axis.scatter(*points[of_class].T, s=1.2, color=colours[int(label) % 10], label=str(label), linewidths=0,
                             rasterized=True)  # fmt: skip
                middle = np.median(points[of_class], 0)
                axis.text(*middle, str(label), fontsize=7, weight="bold", ha="center", va="center")
            axis.set_title(f"{_PLANES[plane]}, {_LABELS[kind]}", fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(visible=False)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=10, markerscale=4,
                      handletextpad=0.1)  # fmt: skip
        return saved(figure, path)


def _stored(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / LATENTS_FILE, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
