"""`grfd bench transfer`: how adversarial examples of one model do against another, ours beside TorchAttacks'.

Claim: examples that leave an attack at its first success transfer badly. With all steps, ours leave at most two points
more than TorchAttacks' at equal budgets, and the iterate of the largest margin transfers at least as well as the last.
Command: `grfd bench transfer --save results/attack_transfer.json`; `grfd page` makes a section of docs/attacks.md.

Sources and victims are undefended networks of two architectures and three seeds, on MNIST, so every ordered pair is
measured. Examples are counted where the victim classifies the clean image correctly.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import nn

from grfd import data as datasets
from grfd.attacks import ATTACKS, OTHER_ATTACKS, TRANSFER
from grfd.bench.attacks import OUR_KEYWORDS
from grfd.bench.libraries import LIBRARIES, Budget, installed, run_foreign
from grfd.bench.victims import fitted
from grfd.data.record import Data, as_images
from grfd.errors import UserError
from grfd.models import LeNet5
from grfd.models.resnet import SmallResNet
from grfd.progress import progress
from grfd.runs import load_weights, provenance, write_json, write_tensors
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

SHOWN = 20_000
"""Training images of each network."""

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "LeNet5": (LeNet5, 0),
    "another LeNet5": (LeNet5, 1),
    "residual net": (partial(SmallResNet, channels=1, classes=10, height=28, width=28), 0),
}
"""Name → architecture, and seed of its weights and order of images."""

BUDGETS: dict[str, Budget] = {
    "fgsm": Budget(0.15),
    **{name: Budget(0.15, step_size=0.15 * 8 / 18, steps=40) for name in ("pgd", "eotpgd", "vmifgsm", "mifgsm", "bim")},
    "rfgsm": Budget(0.15, step_size=0.075, steps=10),
    "apgd_ce": Budget(0.15, steps=40),
    "apgd_t": Budget(0.15, steps=40),
    "fab_t": Budget(0.15, steps=40),
    "square": Budget(0.15, queries=1000),
    "aa_torchattacks": Budget(0.15),
    "aa": Budget(0.15, steps=40, queries=1000),
    "cw": Budget(2.0, steps=200),
}
"""A larger ε than Table 1's, so that the examples do not leave almost every image standing."""

FIRST = "first success"
BEST = "largest margin"
LAST = "last iterate"
WHOLE = "protocol"
THEIRS = "TorchAttacks"

VARIANTS: dict[str, dict[str, Any]] = {
    FIRST: {"active_set": True},
    LAST: {"active_set": False, "keep": "last"},
    BEST: {"active_set": False, "keep": "best"},
}
"""What an attack hands on: its keywords. Attacks without `keep` have the settings of the protocol instead."""


@dataclass(frozen=True)
class Transferred:
    """One number: the share of a victim's examples that is still right, of `examples` that were right before."""

    attack: str
    variant: str
    source: str
    victim: str
    eps: float
    examples: int
    robust: float


def networks(folder: Path, data: Data) -> dict[str, nn.Module]:
    """The networks, trained once, then read from the folder."""
    images, labels = as_images(data.train.images[:SHOWN]), data.train.labels[:SHOWN]
    found = {}
    for name, (build, seed) in NETWORKS.items():
        file = folder / f"transfer-{name.replace(' ', '-').lower()}.safetensors"
        if not file.exists():
            with seeded(seed, "transfer bench", name):
                write_tensors(file, fitted(build(), images, labels, epochs=3).state_dict())
        network = build().eval()
        load_weights(network, file)
        found[name] = network
    return found


def variants_of(attack: str) -> dict[str, dict[str, Any]]:
    """What can be handed on of this attack."""
    if "keep" in TRANSFER[attack]:
        return VARIANTS
    return {FIRST: VARIANTS[FIRST], WHOLE: TRANSFER[attack]}


def bench(folder: Path, attacks: tuple[str, ...] = (), examples: int = 500) -> list[Transferred]:
    """Every variant of every attack on every source, given to the other networks. Raises `UserError` for a name."""
    attacks = attacks or tuple(BUDGETS)
    for name in attacks:
        if name not in BUDGETS:
            raise UserError(f"unknown attack {name!r}: expected one of {', '.join(BUDGETS)}")
    data = datasets.load("mnist")
    known = networks(folder, data)
    images, labels = as_images(data.test.images[:examples]), data.test.labels[:examples]
    work = [(source, attack) for source in known for attack in attacks]
    measured: list[Transferred] = []
    with progress("transfer", len(work)) as advance:
        for source, attack in work:
            for variant, made in examples_of(attack, known[source], images, labels):
                others = {name: each for name, each in known.items() if name != source}
                measured += [_given(made, each, (attack, variant, source, name), images, labels)
                             for name, each in others.items()]  # fmt: skip
            advance(1, f"{attack} on {source}")
    return measured


def examples_of(attack: str, source: nn.Module, images: Images, labels: Labels) -> Iterator[tuple[str, Images]]:
    """Each variant of ours, and TorchAttacks' where it is installed and has the attack."""
    budget, made = BUDGETS[attack], {**ATTACKS, **OTHER_ATTACKS}[attack]
    for variant, changes in variants_of(attack).items():
        stream = generator(0, "transfer bench", attack)
        keywords = OUR_KEYWORDS[attack](budget) | changes
        yield variant, made(source, images, labels, eps=budget.eps, **keywords, generator=stream)
    if "torchattacks" in installed() and attack in LIBRARIES["torchattacks"]:
        yield THEIRS, run_foreign("torchattacks", attack, source, images, labels, budget)


@torch.no_grad()
def _given(
    made: Images, victim: nn.Module, names: tuple[str, str, str, str], images: Images, labels: Labels
) -> Transferred:
    clean = victim(images).argmax(1) == labels
    right = (victim(made).argmax(1) == labels) & clean
    return Transferred(*names, BUDGETS[names[0]].eps, int(clean.sum()), float(right.sum() / clean.sum().clamp_min(1)))


def as_record(measured: list[Transferred], examples: dict[str, int]) -> dict[str, Any]:
    """The content of results/attack_transfer.json. `examples`: attack → images."""
    return {"rows": as_rows(measured), "examples": examples, "seed": 0, **provenance()}


def as_rows(measured: list[Transferred]) -> list[dict[str, Any]]:
    return [asdict(line) for line in measured]


def save(file: Path, measured: list[Transferred], examples: int) -> None:
    """Writes the rows; those of attacks that were not measured this time stay."""
    mine = {line.attack for line in measured}
    stored = json.loads(file.read_text()) if file.exists() else {"rows": [], "examples": {}}
    kept = [Transferred(**row) for row in stored["rows"] if row["attack"] not in mine and row["attack"] in BUDGETS]
    counts = stored["examples"] | dict.fromkeys(mine, examples)
    order = list(BUDGETS)
    rows = sorted([*measured, *kept], key=lambda line: order.index(line.attack))
    write_json(file, as_record(rows, {name: counts[name] for name in order if name in counts}))


def means(measured: list[Transferred]) -> dict[str, dict[str, float]]:
    """Attack → variant → mean over the pairs of networks, in per cent."""
    found: dict[str, dict[str, list[float]]] = {}
    for line in measured:
        found.setdefault(line.attack, {}).setdefault(line.variant, []).append(100 * line.robust)
    return {
        attack: {variant: sum(each) / len(each) for variant, each in variants.items()}
        for attack, variants in found.items()
    }


def printed(measured: list[Transferred]) -> Table:
    """A table for the terminal: per cent still right, the mean over all pairs of networks."""
    pairs = len(list(permutations({line.source for line in measured} | {line.victim for line in measured}, 2)))
    title = f"Transferred examples: per cent that stays right, mean of {pairs} pairs of source and victim"
    columns = (FIRST, LAST, BEST, WHOLE, THEIRS)
    table = Table("attack", *columns, title=title, box=box.SIMPLE_HEAD)
    for attack, found in means(measured).items():
        table.add_row(attack, *(f"{found[name]:.1f}" if name in found else "–" for name in columns))
    return table
