"""Use of a trained defense: disentangle and predict."""

from pathlib import Path
from typing import Literal

import tyro

from grfd.api import using
from grfd.commands.evaluate import RunFolder
from grfd.progress import answer_alone, console, print_json


def disentangle_command(
    run: RunFolder, *, split: Literal["train", "test"] = "test", out: Path, json: bool = False
) -> None:
    """Write x, x_u = G(x), x_r = x − x_u and the labels of a split to a NumPy file.

    Args:
        run: The run folder.
        split: The images of this split.
        out: The .npz file: images and redundant (float32 in [0, 1]), robust (float32 in [−1, 1]), labels (int64).
        json: Print {"written": path}.
    """
    with answer_alone(json):
        written = using.disentangle(run, split, out)
    if json:
        print_json({"written": str(written)})
    else:
        console.print(f"written {written}")


def predict_command(
    run: RunFolder, images: tyro.conf.Positional[tuple[Path, ...]], *, trust: bool = False, json: bool = False
) -> None:
    """Classify PNG or JPEG files with GRFD. Print file, label and probability.

    Args:
        run: The run folder.
        images: Files in the image size of the run. Those for MNIST are 28×28, white on black.
        trust: Import the code that the run folder names as its model. Without this option, it imports none.
        json: Print a list of {"file", "label", "probability"}.
    """
    with answer_alone(json):
        predicted = using.predict(run, list(images), trust=trust)
    if json:
        names = ("file", "label", "probability")
        print_json([dict(zip(names, (str(file), *rest), strict=True)) for file, *rest in predicted])
        return
    for file, label, probability in predicted:
        console.print(f"{file}  {label}  {probability:.3f}")
