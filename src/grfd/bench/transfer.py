"""`grfd bench transfer`: how well adversarial examples of one model fool another one, ours and TorchAttacks'.

Claim: examples that leave an attack at its first success transfer badly. With all steps, the iterate of the largest
margin transfers at least as well as the last one. Aim: at equal budgets, the victim's accuracy is at most two points
higher after our attacks than after TorchAttacks'.
Command: `grfd bench transfer --save results/attack_transfer.json`. `grfd page` writes a section of docs/attacks.md from
this file.

Sources and victims are three undefended networks on MNIST, of two architectures. Every ordered pair is measured, on the
examples that the victim classifies correctly when they are clean.
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
from grfd.attacks import ALL_ATTACKS
from grfd.attacks.losses import Correct
from grfd.bench.libraries import LIBRARIES, Budget, installed, run_foreign
from grfd.bench.ours import OUR_KEYWORDS
from grfd.bench.victims import fitted
from grfd.data.record import Data, as_images
from grfd.errors import UserError
from grfd.models import LeNet5
from grfd.models.resnet import SmallResNet
from grfd.progress import progress
from grfd.runs import load_weights, provenance, write_json, write_tensors
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

_TRAINING_IMAGES = 20_000
"""Training images of each network."""

_NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "LeNet5": (LeNet5, 0),
    "another LeNet5": (LeNet5, 1),
    "residual net": (partial(SmallResNet, channels=1, classes=10, height=28, width=28), 0),
}
"""Name → architecture, and the seed of its weights and of the order of its images."""

TRANSFER_BUDGETS: dict[str, Budget] = {
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
"""ε is larger than in Table 1, at which transferred examples fool almost no network."""

FIRST_SUCCESS = "first success"
LAST_ITERATE = "last iterate"
LARGEST_MARGIN = "largest margin"
AS_PROTOCOL = "protocol"
TORCHATTACKS_ITSELF = "TorchAttacks"
VARIANT_COLUMNS = (FIRST_SUCCESS, LAST_ITERATE, LARGEST_MARGIN, AS_PROTOCOL, TORCHATTACKS_ITSELF)
"""Variants, in the order of columns. docs/attacks.md explains them."""

_KEPT_ITERATES: dict[str, dict[str, Any]] = {
    FIRST_SUCCESS: {"active_set": True},
    LAST_ITERATE: {"active_set": False, "keep": "last"},
    LARGEST_MARGIN: {"active_set": False, "keep": "best"},
}
"""Variant → keywords of an attack that has a choice of the iterate that it returns."""


@dataclass(frozen=True)
class Transferred:
    """One number: the share still right after the attack, of the `examples` that the victim classifies right before."""

    attack: str
    variant: str
    source: str
    victim: str
    eps: float
    examples: int
    robust: float


def _load_networks(folder: Path, data: Data) -> dict[str, nn.Module]:
    """The networks, which are trained once and then read from the folder."""
    images, labels = as_images(data.train.images[:_TRAINING_IMAGES]), data.train.labels[:_TRAINING_IMAGES]
    networks = {}
    for name, (build, seed) in _NETWORKS.items():
        file = folder / f"transfer-{name.replace(' ', '-').lower()}.safetensors"
        if not file.exists():
            with seeded(seed, "transfer bench", name):
                write_tensors(file, fitted(build(), images, labels, epochs=3).state_dict())
        network = build().eval()
        load_weights(network, file)
        networks[name] = network
    return networks


def variants_of(attack: str) -> dict[str, dict[str, Any]]:
    """The variants of an attack. Without the keyword `keep`, it has the settings of the protocol `transfer` instead."""
    transfer = ALL_ATTACKS[attack].transfer
    if "keep" in transfer:
        return _KEPT_ITERATES
    return {FIRST_SUCCESS: _KEPT_ITERATES[FIRST_SUCCESS], AS_PROTOCOL: transfer}


def measure_transfer(folder: Path, attacks: tuple[str, ...] = (), examples: int = 500) -> list[Transferred]:
    """Every variant of every attack on every source, given to the other networks.

    Raises `UserError` for an unknown attack.
    """
    attacks = attacks or tuple(TRANSFER_BUDGETS)
    for name in attacks:
        if name not in TRANSFER_BUDGETS:
            raise UserError(f"unknown attack {name!r}: expected one of {', '.join(TRANSFER_BUDGETS)}")
    data = datasets.load("mnist")
    networks = _load_networks(folder, data)
    images, labels = as_images(data.test.images[:examples]), data.test.labels[:examples]
    clean = {name: _is_right(network, images, labels) for name, network in networks.items()}
    pairs = [(source, attack) for source in networks for attack in attacks]
    measured: list[Transferred] = []
    with progress("transfer", len(pairs)) as advance:
        for source, attack in pairs:
            for variant, adversarial in _examples_of(attack, networks[source], images, labels):
                for victim in (name for name in networks if name != source):
                    attacked = _is_right(networks[victim], adversarial, labels)
                    measured.append(_transferred(attack, variant, source, victim, clean[victim], attacked))
            advance(1, f"{attack} on {source}")
    return measured


def _examples_of(attack: str, source: nn.Module, images: Images, labels: Labels) -> Iterator[tuple[str, Images]]:
    """The examples of each variant of ours, and those of TorchAttacks if it is installed and has the attack."""
    budget = TRANSFER_BUDGETS[attack]
    for variant, changes in variants_of(attack).items():
        stream = generator(0, "transfer bench", attack)
        keywords = OUR_KEYWORDS[attack](budget) | changes
        function = ALL_ATTACKS[attack].function
        yield variant, function(source, images, labels, eps=budget.eps, **keywords, generator=stream)
    if "torchattacks" in installed() and attack in LIBRARIES["torchattacks"]:
        yield TORCHATTACKS_ITSELF, run_foreign("torchattacks", attack, source, images, labels, budget)


@torch.no_grad()
def _is_right(network: nn.Module, images: Images, labels: Labels) -> Correct:
    return network(images).argmax(1) == labels


def _transferred(attack: str, variant: str, source: str, victim: str, clean: Correct, attacked: Correct) -> Transferred:
    robust = (attacked & clean).sum() / clean.sum().clamp_min(1)
    return Transferred(attack, variant, source, victim, TRANSFER_BUDGETS[attack].eps, int(clean.sum()), float(robust))


def save_transfer(file: Path, measured: list[Transferred], examples: int) -> None:
    """Writes the content of results/attack_transfer.json. Rows of attacks that were not measured now are kept."""
    attacks = {line.attack for line in measured}
    saved = json.loads(file.read_text()) if file.exists() else {"rows": [], "examples": {}}
    others = [row for row in saved["rows"] if row["attack"] not in attacks and row["attack"] in TRANSFER_BUDGETS]
    counts = saved["examples"] | dict.fromkeys(attacks, examples)
    order = list(TRANSFER_BUDGETS)
    rows = sorted([*map(asdict, measured), *others], key=lambda row: order.index(row["attack"]))
    known = {name: counts[name] for name in order if name in counts}
    write_json(file, {"rows": rows, "examples": known, "seed": 0, **provenance()})


def mean_shares(measured: list[Transferred]) -> dict[str, dict[str, float]]:
    """Attack → variant → mean over the pairs of networks, in per cent."""
    shares: dict[str, dict[str, list[float]]] = {}
    for line in measured:
        shares.setdefault(line.attack, {}).setdefault(line.variant, []).append(100 * line.robust)
    return {
        attack: {variant: sum(each) / len(each) for variant, each in variants.items()}
        for attack, variants in shares.items()
    }


def transfer_table(measured: list[Transferred]) -> Table:
    """A table for the terminal: per cent that are still right, mean over all pairs of networks."""
    pairs = len(list(permutations({line.source for line in measured} | {line.victim for line in measured}, 2)))
    title = f"Transferred examples: per cent still right, mean of {pairs} pairs of source and victim"
    table = Table("attack", *VARIANT_COLUMNS, title=title, box=box.SIMPLE_HEAD)
    for attack, variants in mean_shares(measured).items():
        table.add_row(attack, *(f"{variants[name]:.1f}" if name in variants else "–" for name in VARIANT_COLUMNS))
    return table
