"""Stage I's training step beside a plain eager reference, in turn, in one run.

`python benchmarks/stage_one.py [--bursts 6]` prints medians, minima and their ratios; about a minute.

The reference is what one writes first: LeNet5 of plain convolution and pooling layers, contiguous float32, one pass of
the network for each of the two gradients of eq. 5 (L_cl is taken from the first), memory as the C library gives it out.
The variants step in bursts by turns, so that a machine whose speed drifts is unfair to none. How malloc behaves holds
for a whole process, so there are two: one as it is by default, one in which freed memory is kept.
"""

import argparse
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from grfd.attacks.losses import log_odds
from grfd.config import Config
from grfd.memory import keep_freed_memory
from grfd.method import losses
from grfd.method.lvcvae import lenet_lvcvae, sample
from grfd.method.objective import StageOne
from grfd.models.lenet import ConvMaxPool, LeNet5
from grfd.progress import progress

BATCH = 256
BURST = 5


def plain(network: nn.Module) -> nn.Module:
    """The same network with each `ConvMaxPool` as the two layers that it stands for."""
    for name, child in network.named_children():
        if isinstance(child, ConvMaxPool):
            convolution = nn.Conv2d(child.in_channels, child.out_channels, 5, padding=child.padding)  # type: ignore[arg-type]
            convolution.load_state_dict(child.state_dict())
            setattr(network, name, nn.Sequential(convolution, nn.MaxPool2d(2)))
        else:
            plain(child)
    return network


class Reference(StageOne):
    """Eq. 6 with one pass of the RSM for each gradient, the first of which gives L_cl too."""

    def forward(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> dict[str, torch.Tensor]:
        config, generator = self.config, self.generator
        mean, log_variance = generator.encode(images)
        latents = sample(mean, log_variance)
        redundant = generator.decode(latents)
        robust = images - redundant
        logits, gradients = [], []
        for point in (robust, robust + torch.randn_like(robust)):
            logits.append(self.rsm(point))
            value = log_odds(logits[-1], labels).sum()
            gradients.append(torch.autograd.grad(value, point, create_graph=True)[0].flatten(1))
        loss = (
            config.alpha[0] * losses.reconstruction_loss(redundant, images)
            + config.beta * losses.kl_divergence(mean, log_variance) / config.latent
            + config.epsilon * F.cross_entropy(generator.rectify(latents), labels, reduction="none")
            + config.gamma * F.cross_entropy(logits[0], labels, reduction="none")
            + config.delta * losses.gradient_similarity_loss(*gradients)
        )
        return {"loss": loss}


def stepper(objective: nn.Module, *, channels_last: bool = False, bfloat16: bool = False) -> Callable[[], float]:
    """A function that makes one training step and returns its loss."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    objective.to(memory_format=memory_format)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 1, 28, 28, generator=generator).contiguous(memory_format=memory_format)
    labels = torch.randint(0, 10, (BATCH,), generator=generator)
    optimizer = torch.optim.AdamW(objective.parameters(), fused=True)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = objective(images, labels, 0.0)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def objective(kind: type[StageOne], *, by_blocks: bool) -> StageOne:
    torch.manual_seed(0)
    generator, rsm = lenet_lvcvae(1, 10, 28, 28), LeNet5()
    if not by_blocks:
        plain(generator), plain(rsm)
    return kind(generator, rsm, Config())


STEPS: dict[str, Callable[[], Callable[[], float]]] = {
    "reference": lambda: stepper(objective(Reference, by_blocks=False)),
    "two passes, by blocks": lambda: stepper(objective(Reference, by_blocks=True)),
    "one pass": lambda: stepper(objective(StageOne, by_blocks=False)),
    "one pass, channels-last": lambda: stepper(objective(StageOne, by_blocks=False), channels_last=True),
    "by blocks": lambda: stepper(objective(StageOne, by_blocks=True)),
    "by blocks, channels-last": lambda: stepper(objective(StageOne, by_blocks=True), channels_last=True),
    "by blocks, bfloat16": lambda: stepper(objective(StageOne, by_blocks=True), bfloat16=True),
}

DEFAULT, KEPT = "default", "kept"
"""What malloc does with freed memory: hands it back to the kernel, or keeps it as `grfd` makes it do."""

VARIANTS = [
    ("reference", DEFAULT),
    ("one pass", DEFAULT),
    ("one pass, channels-last", DEFAULT),
    ("by blocks", DEFAULT),
    ("reference", KEPT),
    ("two passes, by blocks", KEPT),
    ("by blocks", KEPT),
    ("by blocks, channels-last", KEPT),
]
OURS = ("by blocks", KEPT)


def work(connection: Connection, memory: str) -> None:
    """A process of its own: answers a variant's name with the seconds of a burst of its steps."""
    if memory == KEPT and not keep_freed_memory():
        raise SystemExit("this system's malloc cannot be told to keep freed memory")
    steps: dict[str, Callable[[], float]] = {}
    while name := connection.recv():
        if name not in steps:
            steps[name] = STEPS[name]()
        step = steps[name]
        step()  # warms the caches after another variant's turn
        seconds = []
        for _ in range(BURST):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        connection.send(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bursts", type=int, default=6, help=f"bursts of {BURST} steps of each variant (default 6)")
    parser.add_argument("--bfloat16", action="store_true", help="also bfloat16: slow without hardware for it")
    arguments = parser.parse_args()
    variants = VARIANTS + ([("by blocks, bfloat16", KEPT)] if arguments.bfloat16 else [])
    times: dict[tuple[str, str], list[float]] = {variant: [] for variant in variants}
    context = multiprocessing.get_context("spawn")
    workers = {}
    for memory in (DEFAULT, KEPT):
        workers[memory], theirs = context.Pipe()
        context.Process(target=work, args=(theirs, memory), daemon=True).start()
    with progress("bursts of steps", (arguments.bursts + 1) * len(variants)) as advance:
        for turn in range(arguments.bursts + 1):
            for name, memory in variants:
                workers[memory].send(name)
                seconds = workers[memory].recv()
                if turn:  # the first is for warming up
                    times[name, memory] += seconds
                advance(1, name)
    for worker in workers.values():
        worker.send("")  # no name: that was all
    report(times)


def report(times: dict[tuple[str, str], list[float]]) -> None:
    table = Table("variant", "freed memory", "median ms", "minimum ms", "× (median)", "× (minimum)")
    first = next(iter(times.values()))
    for variant, found in times.items():
        middle, least = statistics.median(found), min(found)
        ratios = (statistics.median(first) / middle, min(first) / least)
        cells = (f"{1000 * middle:.0f}", f"{1000 * least:.0f}", *(f"{ratio:.2f}" for ratio in ratios))
        table.add_row(*variant, *cells, style="bold" if variant == OURS else "")
    console = Console()
    console.print(table)
    console.print(
        f"Batch {BATCH}, {len(first)} steps each; ours in bold. PyTorch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {platform.machine()}, {platform.system()}"
    )


if __name__ == "__main__":
    main()
