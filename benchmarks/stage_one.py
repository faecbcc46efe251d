"""Stage I's training step beside a plain eager reference, in turn, in one process.

Claim: at least twice as fast as the reference at batch 256 on two cores. `python benchmarks/stage_one.py [--steps 20]`
prints medians, minima and their ratios; about two minutes. Variants of ours show what each lever gives.

The reference is what one writes first: LeNet5 of plain convolution and pooling layers, contiguous float32, the network
called once for L_cl and once for each of the two gradients of eq. 5.
"""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

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
    """Eq. 6 with one call of the RSM for L_cl and one for each gradient."""

    def forward(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> dict[str, torch.Tensor]:
        config, generator = self.config, self.generator
        mean, log_variance = generator.encode(images)
        latents = sample(mean, log_variance)
        redundant = generator.decode(latents)
        robust = images - redundant
        gradients = []
        for point in (robust, robust + torch.randn_like(robust)):
            value = losses.margin(self.rsm(point), labels).sum()
            gradients.append(torch.autograd.grad(value, point, create_graph=True)[0].flatten(1))
        loss = (
            config.alpha[0] * losses.reconstruction_loss(redundant, images)
            + config.beta * losses.kl_divergence(mean, log_variance) / config.latent
            + config.epsilon * F.cross_entropy(generator.rectify(latents), labels, reduction="none")
            + config.gamma * F.cross_entropy(self.rsm(robust), labels, reduction="none")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="counted steps of each variant (default 20)")
    parser.add_argument("--bfloat16", action="store_true", help="also bfloat16: slow without hardware for it")
    arguments = parser.parse_args()
    steps = {
        "reference: eager, three passes": stepper(objective(Reference, by_blocks=False)),
        "one batched pass": stepper(objective(StageOne, by_blocks=False)),
        "… channels-last": stepper(objective(StageOne, by_blocks=False), channels_last=True),
        "ours: one pass, by blocks": stepper(objective(StageOne, by_blocks=True)),
        "ours, channels-last": stepper(objective(StageOne, by_blocks=True), channels_last=True),
    }
    if arguments.bfloat16:
        steps["ours, bfloat16"] = stepper(objective(StageOne, by_blocks=True), bfloat16=True)
    times: dict[str, list[float]] = {name: [] for name in steps}
    with progress("stage I steps", (arguments.steps + 2) * len(steps)) as advance:
        for turn in range(arguments.steps + 2):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                if turn >= 2:
                    times[name].append(time.perf_counter() - started)
                advance(1, name)
    report(times)


def report(times: dict[str, list[float]]) -> None:
    table = Table("variant", "median ms", "minimum ms", "speed-up (median)", "speed-up (minimum)")
    first = next(iter(times.values()))
    for name, found in times.items():
        middle, least = statistics.median(found), min(found)
        ratios = (statistics.median(first) / middle, min(first) / least)
        table.add_row(name, f"{1000 * middle:.0f}", f"{1000 * least:.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    console = Console()
    console.print(table)
    console.print(
        f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"huge pages {os.environ['THP_MEM_ALLOC_ENABLE']}"
    )


if __name__ == "__main__":
    main()
