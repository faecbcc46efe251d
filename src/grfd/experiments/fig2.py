"""Figure 2: the latent variables with and without the rectification head.

Claim: the head separates the classes in the latent space. Seen here as scatter plots (PCA and t-SNE) and as numbers:
silhouette of the classes, accuracy of a linear probe and of 10 nearest neighbours (trained on μ of 5,000 training
images, tested on 2,000 test images).
Cost: `grfd reproduce fig2 --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce fig2 --scale short --seeds 3`.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from grfd import runs
from grfd.api.job import load_data, write_npz
from grfd.data.record import Split, as_images
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.latents import LATENTS, draw_figure_2, figure_2
from grfd.experiments.variants import FOLDER, SCALES, Variant, folder_of, name_of, scheduled, settled
from grfd.method.stages import load_generator
from grfd.report.sheets import printed, write

__all__ = ["FOLDER", "SCALES", "cells", "show"]

COMPARED = {"with": Variant(), "without": Variant({"epsilon": 0.0})}
PROBED, SHOWN, NEIGHBOURS = 5000, 2000, 10


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """Training with and without the head, and what is measured of the latent variables, seed by seed."""
    schedule, todo = scheduled(scale, data_dir), []
    for seed in range(seeds):
        folder = folder_of(out, scale, seed)
        names = {kind: name_of(schedule, variant) for kind, variant in COMPARED.items()}
        measured = folder / LATENTS
        for kind, variant in COMPARED.items():
            path, config = folder / names[kind], settled(schedule, seed, variant)
            done, do = partial(_is_done_with, path, measured), partial(variants.train, path, config)
            todo.append(Cell(f"seed {seed}: train {names[kind]}", schedule.training, done, do))
        todo.append(
            Cell(f"seed {seed}: latent variables", 0.3, measured.exists, partial(_measure, folder, names, seed))
        )
    return todo


def _is_done_with(path: Path, measured: Path) -> bool:
    """Whether a training is there, or what is measured of it is."""
    return variants.is_trained(path) or measured.exists()


def _measure(folder: Path, names: dict[str, str], seed: int) -> None:
    """latents.npz: labels, and for each kind its PCA and t-SNE plane [images, 2] and its three numbers."""
    from sklearn.decomposition import PCA  # a second to import: not for every command
    from sklearn.manifold import TSNE

    arrays: dict[str, np.ndarray] = {}
    for kind, name in names.items():
        run = runs.load(folder / name)
        data = load_data(run)
        generator = load_generator(run, data)
        shown, probed = data.test.take(SHOWN), data.train.take(PROBED)
        latents, known = _means(generator, shown), _means(generator, probed)
        arrays["labels"] = shown.labels.numpy()
        arrays[f"{kind}.pca"] = PCA(2, random_state=seed).fit_transform(latents)
        arrays[f"{kind}.tsne"] = TSNE(2, random_state=seed, init="pca").fit_transform(latents)
        arrays |= {f"{kind}.{key}": np.array(value) for key, value in
                   _numbers(latents, shown, known, probed).items()}  # fmt: skip
    write_npz(folder / LATENTS, arrays)


@torch.no_grad()
def _means(generator: torch.nn.Module, split: Split) -> np.ndarray:
    """μ of every image, [images, latent]."""
    parts = [generator.encode(as_images(part))[0] for part in split.images.split(1000)]  # type: ignore[operator]
    return torch.cat(parts).numpy()


def _numbers(latents: np.ndarray, shown: Split, known: np.ndarray, probed: Split) -> dict[str, float]:
    """Silhouette in [−1, 1], accuracies as shares."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    near = KNeighborsClassifier(NEIGHBOURS)
    labels, wanted = shown.labels.numpy(), probed.labels.numpy()
    return {
        "silhouette": float(silhouette_score(latents, labels)),
        "probe": float(probe.fit(known, wanted).score(latents, labels)),
        "neighbours": float(near.fit(known, wanted).score(latents, labels)),
    }


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers over seeds, and fig2.png and .pdf of the first."""
    folders = [folder_of(out, scale, seed) for seed in range(seeds)]
    sheet = figure_2(folders)
    write(sheet, out / "fig2")
    return [printed(sheet), f"drawn {draw_figure_2(folders[0], out / 'fig2')[0]}"]
