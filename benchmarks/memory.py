"""Peak memory and time of `grfd evaluate` and of stage I for photographs of 224×224 pixels.

`python benchmarks/memory.py [--examples 10 30 100] [--files 100 10000]` judges a ResNet-50 of transformers with random
weights by FGSM and 20 steps of PGD, and makes all masking checks. It first varies the number of files in the folder, of
which 10 are judged, then the number of images that are judged. Last, it trains stage I with a ResNet-18 for one epoch
of 96 images in batches of 32. Each is a process of its own, and its peak is its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


RESNET_18: dict[str, Any] = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}


class Measured(NamedTuple):
    """One process: its time, and its peak of resident memory."""

    seconds: float
    gigabytes: float


def write_model(folder: Path, **shape: Any) -> None:
    """A ResNet of transformers with random weights; without a shape, a ResNet-50."""
    torch.manual_seed(0)
    config = ResNetConfig(**shape)
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


def judged(work: Path, files: int, examples: int) -> Measured:
    """Judges the ResNet-50 on the first images of a folder with that many files."""
    photographs = photographs_in(work, files)
    words = ["evaluate", "--model", f"hf/{work / 'resnet-50'}", "--data", "folder", "--data-dir", str(photographs),
             "--split", "all", "--protocols", "whitebox", "--attacks", "fgsm", "memory_attack:pgd20", "--norm", "linf",
             "--eps", "0.0157", "--examples", str(examples), "--out", str(work / f"{files}-{examples}")]  # fmt: skip
    return measured(work, words)


def stage_one(work: Path) -> Measured:
    """One epoch of stage I at 224×224 pixels: LVCVAE, and a ResNet-18 as RSM."""
    words = ["stage-one", "quick", "--data", "folder", "--data-dir", str(photographs_in(work, 160)), "--resize", "224",
             "--crop", "224", "--model", f"hf/{work / 'resnet-18'}", "--train-examples", "96", "--batch", "32",
             "--epochs", "1", "--out", str(work / "stage-one")]  # fmt: skip
    return measured(work, words)


def photographs_in(work: Path, files: int) -> Path:
    """A folder with that many files, written once."""
    photographs = work / f"photographs-{files}"
    if not photographs.exists():
        write_photographs(photographs, files)
    return photographs


def measured(work: Path, words: list[str]) -> Measured:
    """Runs a command of grfd."""
    environment = os.environ | {"PYTHONPATH": f"{work}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "grfd", *words], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"grfd {words[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return Measured(time.perf_counter() - started, usage.ru_maxrss / 2**20)  # Linux counts kilobytes


def main() -> None:
    """Prints a line as each process ends, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--files", type=int, nargs="+", default=[100, 10_000])
    asked = parser.parse_args()
    table = Table("what", "files", "images", "minutes", "peak, GB")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_model(work / "resnet-50")
        write_model(work / "resnet-18", **RESNET_18)
        (work / "memory_attack.py").write_text(ATTACK)
        cases = [(files, min(asked.examples)) for files in sorted(asked.files)]
        cases += [(min(asked.files), examples) for examples in sorted(asked.examples)[1:]]
        todo = [("grfd evaluate, ResNet-50", files, examples, partial(judged, work, files, examples))
                for files, examples in cases]  # fmt: skip
        for what, files, images, work_of in [*todo, ("stage I, ResNet-18", 160, 96, partial(stage_one, work))]:
            found = work_of()
            line = (what, f"{files:,}", str(images), f"{found.seconds / 60:.1f}", f"{found.gigabytes:.2f}")
            print(" | ".join(line), flush=True)
            table.add_row(*line)
    Console().print(table)


if __name__ == "__main__":
    main()
