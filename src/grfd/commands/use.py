"""What a trained defense is for: disentangle and predict."""

from pathlib import Path
from typing import Literal

import tyro

from grfd.api import using
from grfd.commands.evaluate import RunFolder
from grfd.progress import console


def disentangle(run: RunFolder, *, split: Literal["train", "test"] = "test", out: Path) -> None:
    """Write x, x_u = G(x), x_r = x − x_u and the labels of a split to a NumPy file.

    Args:
        run: The run folder.
        split: Which images.
        out: The .npz: images and redundant float32 in [0, 1], robust float32 in [−1, 1], labels int64.
    """
    console.print(f"written {using.disentangle(run, split, out)}")


def predict(run: RunFolder, images: tyro.conf.Positional[tuple[Path, ...]], *, trust: bool = False) -> None:
    """Classify PNG or JPEG files with the run's defense: file, label, probability.

    Args:
        run: The run folder.
        images: Files of the size that the run was trained on; MNIST's are 28×28, white on black.
        trust: Import the code that the run folder names as its model; without it, a run folder imports none.
    """
    for file, label, probability in using.predict(run, list(images), trust=trust):
        console.print(f"{file}  {label}  {probability:.3f}")
