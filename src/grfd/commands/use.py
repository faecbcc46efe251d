"""Use of a fitted defense: disentangle, predict and export."""

from pathlib import Path
from typing import Literal

import tyro

from grfd.api import using
from grfd.api.exporting import export
from grfd.api.job import Own
from grfd.commands.evaluate import RunFolder
from grfd.progress import answer_alone, console, print_json


def disentangle_command(
    run: RunFolder, *, split: Literal["train", "test"] = "test", out: Path, json: bool = False
) -> None:
    """Write x, its redundant part x_u, its robust part x_r and the labels of a split to a NumPy file.

    As published, x_u = G(x) and x_r = x − G(x). The run's setting robust_part may exchange them.

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
    run: RunFolder,
    images: tyro.conf.Positional[tuple[Path, ...]],
    *,
    defense: str = "grfd",
    trust: bool = False,
    json: bool = False,
) -> None:
    """Classify PNG or JPEG files with a fitted defense. Print file, label and probability.

    Args:
        run: The run folder.
        images: Files in the image size of the run. Those for MNIST are 28×28, white on black.
        defense: The name of a defense that was fitted in the run folder, for example standard.
        trust: Import the code that the run folder names as its model. Without this option, it imports none.
        json: Print a list of {"file", "label", "probability"}.
    """
    with answer_alone(json):
        predicted = using.predict(run, list(images), defense=defense, trust=trust)
    if json:
        names = ("file", "label", "probability")
        print_json([dict(zip(names, (str(file), *rest), strict=True)) for file, *rest in predicted])
        return
    for file, label, probability in predicted:
        console.print(f"{file}  {label}  {probability:.3f}")


def export_command(
    run: RunFolder,
    defense: tyro.conf.Positional[str],
    *,
    out: Path,
    format: Literal["pt2", "onnx", "safetensors"] = "pt2",
    trust: bool = False,
    json: bool = False,
) -> None:
    """Write a fitted defense as a file that is deployed without grfd, with a model card of its verdict.

    The model takes images with pixels in [0, 1] and answers with logits. Its preprocessing is part of it. The file is
    read again, and it must answer as the defense does.

    Args:
        run: The run folder.
        defense: The name of a defense that was fitted in it, for example grfd or standard.
        out: Folder for the model, the names of its classes (classes.json), and its model card (README.md).
        format: pt2: a program of torch.export. onnx: for ONNX Runtime. safetensors: the weights alone.
        trust: Import the code that the run folder names as its model. Without this option, it imports none.
        json: Print {"written": [path, …]}.
    """
    with answer_alone(json):
        written = export(run, defense, out, format, Own(trust=trust))
    if json:
        print_json({"written": [str(file) for file in written]})
    else:
        console.print("\n".join(f"written {file}" for file in written), highlight=False, markup=False)
