"""Stage I's training step beside a plain eager reference, in turn, in one run.

Wanted: twice as fast as the reference at batch 256 on two cores. Not reached: docs/decisions.md says what was measured.
`python benchmarks/stage_one.py [--bursts 6]` prints medians, minima and their ratios; about a minute.

The reference is what one writes first: LeNet5 of plain convolution and pooling layers, contiguous float32, one pass of
the network for each of the two gradients of eq. 5 (L_cl is taken from the first). The variants step in bursts by turns,
so that a machine whose speed drifts is unfair to none.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from grfd.config import Config
from grfd.disentangle import losses
from grfd.disentangle.lvcvae import LVCVAE, sample
from grfd.disentangle.objective import StageOne
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
            value = losses.margin(logits[-1], labels).sum()
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
    generator, rsm = LVCVAE(1, 10, 28, 28), LeNet5()
    if not by_blocks:
        plain(generator), plain(rsm)
    return kind(generator, rsm, Config())


def variants(*, bfloat16: bool) -> dict[str, Callable[[], float]]:
    """Name → step. Bfloat16 comes on request: without hardware for it, it is slow."""
    steps = {
        "reference": stepper(objective(Reference, by_blocks=False)),
        "one pass": stepper(objective(StageOne, by_blocks=False)),
        "… channels-last": stepper(objective(StageOne, by_blocks=False), channels_last=True),
        "ours: … by blocks": stepper(objective(StageOne, by_blocks=True)),
        "ours, channels-last": stepper(objective(StageOne, by_blocks=True), channels_last=True),
    }
    return steps | ({"ours, bfloat16": stepper(objective(StageOne, by_blocks=True), bfloat16=True)} if bfloat16 else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bursts", type=int, default=6, help=f"bursts of {BURST} steps of each variant (default 6)")
    parser.add_argument("--bfloat16", action="store_true", help="also bfloat16: slow without hardware for it")
    arguments = parser.parse_args()
    steps = variants(bfloat16=arguments.bfloat16)
    times: dict[str, list[float]] = {name: [] for name in steps}
    with progress("bursts of steps", (arguments.bursts + 1) * len(steps)) as advance:
        for turn in range(arguments.bursts + 1):
            for name, step in steps.items():
                step()  # warms the caches after another variant's turn
                for _ in range(BURST):
                    started = time.perf_counter()
                    step()
                    if turn:
                        times[name].append(time.perf_counter() - started)
                advance(1, name)
    report(times)


def report(times: dict[str, list[float]]) -> None:
    table = Table("variant", "median ms", "minimum ms", "× (median)", "× (minimum)")
    first = next(iter(times.values()))
    for name, found in times.items():
        middle, least = statistics.median(found), min(found)
        ratios = (statistics.median(first) / middle, min(first) / least)
        table.add_row(name, f"{1000 * middle:.0f}", f"{1000 * least:.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    console = Console()
    console.print(table)
    console.print(
        f"Batch {BATCH}, {len(first)} steps each. PyTorch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{platform.machine()}, {platform.system()}"
    )


if __name__ == "__main__":
    main()
