"""`grfd bench train PRESET`: the speed of a step of stage I, and the share of this device's speed that it reaches.

Command: `grfd bench train cifar10-wrn28-10 --precision bfloat16`. Images are random and have the shape of the data set,
so nothing is downloaded. PyTorch counts the floating-point operations while the step runs: matrix products and
convolutions, including those of the double backward pass, where a multiplication and an addition count as two. The
device's own speed is that of a product of two large matrices in the same precision.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from grfd.api.job import build_architecture
from grfd.config import Config
from grfd.data.record import Data, as_images, from_tensors
from grfd.defenses.grfd import GRFD
from grfd.errors import UserError
from grfd.memory import keep_freed_memory
from grfd.method.objective import StageOne
from grfd.method.stages import build_generator
from grfd.progress import progress
from grfd.runs import Run
from grfd.training import loop

_SHAPES = {"mnist": (1, 28, 28, 10), "cifar10": (3, 32, 32, 10), "cifar100": (3, 32, 32, 100)}
"""Data set → channels, height, width, classes."""
_WARM_UP_STEPS = 2
"""Steps before the first one that is timed."""


@dataclass(frozen=True)
class StageOneRate:
    """A step of stage I: median seconds, operations per second, also of the device itself, and peak memory.

    `gflop_an_image` is the work of the step per image. `gflop_an_answer` is the work of one forward pass of
    x ↦ F(x − G(x)), from which the cost of attacks and of trainings without double backward can be estimated: a
    gradient with respect to the image takes one more pass, a training step two more.
    """

    device: str
    precision: str
    batch: int
    steps: int
    seconds: float
    images_per_second: float
    gflop_an_image: float
    gflop_an_answer: float
    tflops: float
    device_tflops: float
    peak_gib: float

    @property
    def share(self) -> float:
        """The share of the device's speed that the step reaches."""
        return self.tflops / self.device_tflops


def measure_stage_one(config: Config, steps: int) -> StageOneRate:
    """Times `steps` steps of stage I of a configuration. Raises `UserError` for a data set of unknown shape."""
    if config.data not in _SHAPES:
        raise UserError(f"data {config.data!r}: expected one of {', '.join(_SHAPES)}")
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}")
    keep_freed_memory()
    run, data = Run(Path("unused"), config), _random_data(config)
    step = _stepper(run, data)
    seconds_taken = []
    with FlopCounterMode(display=False) as counted:
        step()
    with progress("steps", _WARM_UP_STEPS + steps) as advance:
        for index in range(_WARM_UP_STEPS + steps):
            started = time.perf_counter()
            step()
            seconds_taken.append(time.perf_counter() - started)
            advance(1, f"step {index + 1}: {seconds_taken[-1]:.2f} s")
    seconds = statistics.median(seconds_taken[_WARM_UP_STEPS:])
    device = loop.accelerator_for(run).device
    return StageOneRate(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads",
        precision=config.precision,
        batch=config.batch,
        steps=steps,
        seconds=seconds,
        images_per_second=config.batch / seconds,
        gflop_an_image=counted.get_total_flops() / config.batch / 1e9,
        gflop_an_answer=_answer(run, data) / 1e9,
        tflops=counted.get_total_flops() / seconds / 1e12,
        device_tflops=matrix_rate(device, config.precision) / 1e12,
        peak_gib=_peak(device) / 2**30,
    )


def _random_data(config: Config) -> Data:
    channels, height, width, classes = _SHAPES[config.data]
    count = max(config.batch, classes)
    stream = torch.Generator().manual_seed(config.seed)
    pixels = torch.randint(256, (count, channels, height, width), generator=stream, dtype=torch.uint8)
    labels = torch.arange(count) % classes
    return from_tensors(pixels, labels, pixels[:classes], labels[:classes])


@torch.no_grad()
def _answer(run: Run, data: Data) -> int:
    """Operations of one forward pass of the whole defense, for one image."""
    defense = GRFD(build_generator(run.config, data), build_architecture(run.config, data)()).eval()
    with FlopCounterMode(display=False) as counted:
        defense(as_images(data.test.images[:1]))
    return counted.get_total_flops()


def _stepper(run: Run, data: Data) -> Callable[[], None]:
    """A function that runs one step of the training loop on the first batch, and returns when the device is done."""
    torch.manual_seed(run.config.seed)
    objective = StageOne(build_generator(run.config, data), build_architecture(run.config, data)(), run.config)
    trainer = loop.build_trainer(run, "bench", objective, loop.Optimisation(1, run.config.learning_rate))
    device = trainer.accelerator.device
    images, labels = (tensor[: run.config.batch].to(device) for tensor in (data.train.images, data.train.labels))
    trainer.objective.train()
    batch, stream = torch.arange(len(labels), device=device), torch.Generator(device)

    def step() -> None:
        loop.step(trainer, images, labels, batch, 0.0, stream)
        _finish(device)

    return step


def matrix_rate(device: torch.device, precision: str) -> float:
    """Operations per second of a product of two square matrices, the best of several runs."""
    size = 8192 if device.type == "cuda" else 1024
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    first, second = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    seconds_taken = []
    for _ in range(10):
        started = time.perf_counter()
        first @ second
        _finish(device)
        seconds_taken.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds_taken)


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _peak(device: torch.device) -> float:
    """Peak memory in bytes, of the accelerator or of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # there is none on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rate_table(rate: StageOneRate) -> Table:
    """A table for the terminal."""
    table = Table(show_header=False, box=box.SIMPLE_HEAD)
    for what, value in (
        ("device", rate.device),
        ("precision", rate.precision),
        ("batch", f"{rate.batch}"),
        ("images per second", f"{rate.images_per_second:,.1f}"),
        ("GFLOP per image", f"{rate.gflop_an_image:,.3f}"),
        ("GFLOP per forward pass of F(x − G(x))", f"{rate.gflop_an_answer:,.3f}"),
        ("TFLOP/s of the step", f"{rate.tflops:.3f}"),
        ("TFLOP/s of a matrix product", f"{rate.device_tflops:.3f}"),
        ("share that the step reaches", f"{rate.share:.0%}"),
        ("peak memory, GiB", f"{rate.peak_gib:.1f}"),
    ):
        table.add_row(what, value)
    return table


def as_row(rate: StageOneRate) -> dict[str, Any]:
    return asdict(rate) | {"share": rate.share}
