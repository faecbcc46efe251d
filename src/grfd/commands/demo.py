"""Training and evaluation in one command."""

import time
from pathlib import Path

from rich.text import Text

from grfd.api.job import Own
from grfd.commands.evaluate import evaluate_command
from grfd.commands.train import Training, train_command
from grfd.config import PRESETS
from grfd.evaluation.protocols import Protocol
from grfd.progress import answer_alone, console
from grfd.report.html.page import MISSING_LIBRARY, has_library
from grfd.schema import Examples


def demo_command(*, out: Path = Path("runs/demo"), examples: Examples = 300, json: bool = False) -> None:
    """Train GRFD on MNIST, attack it, and print the table.

    Trains a standard LeNet5, the three stages of GRFD and a second standard model with the quick preset. Attacks them
    with the attacks of the paper's Table 1 (A3 in the place of AutoAttack) under transfer, whitebox and adaptive.
    Writes a run folder with records, a figure like the paper's figure 3, and report.html with every example. If it is
    stopped, the same command continues.

    Args:
        out: The run folder.
        examples: Number of test images to attack, counted from the first.
        json: Print {"rows": [...], "checks": [...]}, as grfd show does.
    """
    started = time.monotonic()
    with answer_alone(json):
        train_command(Training(**vars(PRESETS["quick"]), out=out), Own())
    protocols: tuple[Protocol, ...] = ("transfer", "whitebox", "adaptive")
    library = has_library()
    evaluate_command(out, protocols=protocols, examples=examples, keep_images=True, report=library, json=json)
    if not library and not json:
        console.print(Text(f"No report was written: {MISSING_LIBRARY}", "dim"))
    if not json:
        console.print(Text(f"{time.monotonic() - started:.0f} s. The same numbers: grfd show {out} --json", "dim"))
