"""Peak memory and time of `grfd evaluate` for a ResNet-50 on photographs of 224×224 pixels.

`python benchmarks/memory.py [--examples 10 30 100] [--files 100 10000]` judges a ResNet-50 of transformers with random
weights by FGSM and 20 steps of PGD, and makes all masking checks. It first varies the number of images that are judged,
then the number of files in the folder, of which 10 are judged. Each evaluation is a process of its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import ResNetConfig, ResNetForImageClassification

ATTACK = """
from grfd.attacks import pgd

def pgd20(model, images, labels, *, eps, norm="linf", generator=None, **keywords):
    return pgd(model, images, labels, eps=eps, step_size=eps / 4, steps=20, norm=norm, generator=generator)
"""
CLASSES = 2


class Measured(NamedTuple):
    """One evaluation."""

    files: int
    examples: int
    seconds: float
    gigabytes: float


def write_model(folder: Path) -> None:
    """A ResNet-50 of transformers with random weights."""
    torch.manual_seed(0)
    config = ResNetConfig()
    config.num_labels = CLASSES
    ResNetForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 1.0, '
        '"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}'
    )


def write_photographs(folder: Path, files: int) -> None:
    """`files` JPEGs of 260×240 pixels in two classes. Beyond the first hundred they are links to those."""
    random = np.random.default_rng(0)
    for index in range(files):
        path = folder / f"class-{index % CLASSES}" / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < 100:
            small = random.integers(0, 256, (12, 13, 3), dtype=np.uint8)
            Image.fromarray(small).resize((260, 240), Image.Resampling.BICUBIC).save(path)
        else:
            os.link(folder / f"class-{index % CLASSES}" / f"{index % 100:06}.jpg", path)


def measured(work: Path, files: int, examples: int) -> Measured:
    """Judges the model on the first images of a folder with that many files."""
    photographs = work / f"photographs-{files}"
    if not photographs.exists():
        write_photographs(photographs, files)
    words = ["evaluate", "--model", f"hf/{work / 'resnet-50'}", "--data", "folder", "--data-dir", str(photographs),
             "--split", "all", "--protocols", "whitebox", "--attacks", "fgsm", "memory_attack:pgd20", "--norm", "linf",
             "--eps", "0.0157", "--examples", str(examples), "--out", str(work / f"{files}-{examples}")]  # fmt: skip
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, time.perf_counter()
    environment = os.environ | {"PYTHONPATH": f"{work}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-m", "grfd", *words], check=True, env=environment, stdout=subprocess.DEVNULL)
    peak = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before)  # of all children so far, in kilobytes
    return Measured(files, examples, time.perf_counter() - started, peak / 2**20)


def main() -> None:
    """Prints a line for each evaluation. The peak is that of the largest so far, so sizes must not fall."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--files", type=int, nargs="+", default=[100, 10_000])
    asked = parser.parse_args()
    table = Table("files", "judged", "minutes", "peak, GB")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_model(work / "resnet-50")
        (work / "memory_attack.py").write_text(ATTACK)
        cases = [(files, min(asked.examples)) for files in sorted(asked.files)]
        cases += [(min(asked.files), examples) for examples in sorted(asked.examples)[1:]]
        for files, examples in cases:
            found = measured(work, files, examples)
            print(
                f"{files:,} files, {examples} judged: {found.seconds / 60:.1f} minutes, {found.gigabytes:.2f} GB",
                flush=True,
            )
            table.add_row(f"{files:,}", str(examples), f"{found.seconds / 60:.1f}", f"{found.gigabytes:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
