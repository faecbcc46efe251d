"""The main job in one command."""

import time
from pathlib import Path

from rich.text import Text

from grfd.commands.evaluate import evaluate
from grfd.commands.train import Training, train
from grfd.config import PRESETS
from grfd.progress import console
from grfd.schema import Examples


def demo(*, out: Path = Path("runs/demo"), examples: Examples = 100) -> None:
    """The main job in five minutes on two cores: train on MNIST, attack, print the table.

    Trains a standard LeNet5, GRFD's three stages and a second standard model with the quick preset, attacks all of
    them with the five attacks of the paper's Table 1 under transfer, whitebox and adaptive, prints the table, and
    writes the run folder with records and a figure like the paper's Fig. 3. Stopped, it continues where it was.

    Args:
        out: The run folder.
        examples: Attack the first so many test images.
    """
    started = time.monotonic()
    train(Training(**vars(PRESETS["quick"]), out=out))
    evaluate(out, protocols=("transfer", "whitebox", "adaptive"), examples=examples)
    console.print(Text(f"{time.monotonic() - started:.0f} s. The same numbers: grfd show {out} --json", "dim"))
