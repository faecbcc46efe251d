"""One epoch of adversarial training beside other libraries, at equal settings, in turn, in one run.

`python benchmarks/adversarial_training.py [--images 6000] [--repeats 3]` trains a LeNet5 on MNIST by PGD-AT and by
TRADES: ours, ART's trainers, and a plain loop around TorchAttacks (PGD, and TPGD for TRADES); about five minutes. All
have the same network, batches of 128, ten steps, Adam, and the same images. Needs ART and TorchAttacks.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import torchattacks
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainerMadryPGD, AdversarialTrainerTRADESPyTorch
from art.estimators.classification import PyTorchClassifier
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import grfd
from grfd.data.record import as_images
from grfd.models.lenet import LeNet5
from grfd.progress import progress

EPS, STEP, STEPS, BETA, BATCH = 0.11, 0.04, 10, 3.0, 128


def ours(defense: str) -> Callable[[Tensor, Tensor], float]:
    """`grfd.fit`, with all that it does: checkpoints, metrics and a run folder. Standard models are trained before."""

    def train(images: Tensor, labels: Tensor) -> float:
        recipe = {"epochs": 1, "eps": EPS, "step_size": STEP, "steps": STEPS}
        data = grfd.from_tensors(images, labels, images[:10], labels[:10])
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            grfd.fit("standard", out, data=data, batch=BATCH, classifier_epochs=1, device="cpu")
            started = time.perf_counter()
            grfd.fit(defense, out, data=data, recipe=recipe)
            return time.perf_counter() - started

    return train


def plain_pgd(images: Tensor, labels: Tensor) -> float:
    """A plain loop around the PGD of TorchAttacks."""
    model = LeNet5()
    attack = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS)
    return looped(model, images, labels, lambda x, y: F.cross_entropy(model(attack(x, y)), y))


def plain_trades(images: Tensor, labels: Tensor) -> float:
    """A plain loop around the TPGD of TorchAttacks, which climbs the divergence of TRADES."""
    model = LeNet5()
    attack = torchattacks.TPGD(model, eps=EPS, alpha=STEP, steps=STEPS)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        logits, moved = model(x), model(attack(x, y))
        divergence = F.kl_div(moved.log_softmax(1), logits.softmax(1), reduction="batchmean")
        return F.cross_entropy(logits, y) + BETA * divergence

    return looped(model, images, labels, loss)


def looped(model: nn.Module, images: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    started = time.perf_counter()
    for rows in torch.randperm(len(images)).split(BATCH):
        value = loss(images[rows], labels[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return time.perf_counter() - started


def art_classifier() -> PyTorchClassifier:
    model = LeNet5()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    shape = {"input_shape": (1, 28, 28), "nb_classes": 10, "clip_values": (0.0, 1.0), "device_type": "cpu"}
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), optimizer=optimizer, **shape)


def art_pgd(images: Tensor, labels: Tensor) -> float:
    """ART's trainer of Madry et al."""
    settings = {"eps": EPS, "eps_step": STEP, "max_iter": STEPS, "nb_epochs": 1, "batch_size": BATCH}
    trainer = AdversarialTrainerMadryPGD(art_classifier(), **settings)
    started = time.perf_counter()
    trainer.fit(images.numpy(), F.one_hot(labels, 10).numpy())
    return time.perf_counter() - started


def art_trades(images: Tensor, labels: Tensor) -> float:
    """ART's trainer of TRADES, with its PGD."""
    classifier = art_classifier()
    settings = {"eps": EPS, "eps_step": STEP, "max_iter": STEPS, "num_random_init": 1, "batch_size": BATCH}
    attack = ProjectedGradientDescent(classifier, verbose=False, **settings)
    trainer = AdversarialTrainerTRADESPyTorch(classifier, attack, BETA)
    started = time.perf_counter()
    trainer.fit(images.numpy(), F.one_hot(labels, 10).numpy(), nb_epochs=1, batch_size=BATCH)
    return time.perf_counter() - started


TRAININGS: dict[str, dict[str, Callable[[Tensor, Tensor], float]]] = {
    "PGD-AT": {"grfd": ours("pgd-at"), "a loop around TorchAttacks": plain_pgd, "ART": art_pgd},
    "TRADES": {"grfd": ours("trades"), "a loop around TorchAttacks": plain_trades, "ART": art_trades},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=6000, help="training images (default 6,000)")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each, of which the median counts (default 3)")
    arguments = parser.parse_args()
    split = grfd.load("mnist").train.take(arguments.images)
    images, labels = as_images(split.images), split.labels
    table = Table("training", "with", "seconds an epoch", "× ours")
    total = arguments.repeats * sum(map(len, TRAININGS.values()))
    with progress("epochs", total) as advance:
        for training, libraries in TRAININGS.items():
            seconds: dict[str, list[float]] = {name: [] for name in libraries}
            for _ in range(arguments.repeats):
                for name, train in libraries.items():
                    seconds[name].append(train(images, labels))
                    advance(1, f"{training}, {name}")
            mine = statistics.median(seconds["grfd"])
            for name, times in seconds.items():
                middle = statistics.median(times)
                table.add_row(training, name, f"{middle:.1f}", f"{middle / mine:.2f}")
    console = Console()
    console.print(table)
    console.print(f"{arguments.images:,} images, {platform.platform()}, {os.cpu_count()} processors, PyTorch "
                  f"{torch.__version__}, {torch.get_num_threads()} threads", highlight=False)  # fmt: skip


if __name__ == "__main__":
    main()
