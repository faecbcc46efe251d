"""`grfd bench passes`: robust accuracy by the number of passes, for our attacks and those of other libraries.

A pass is one image that the model classifies; each image of a gradient is one forward and one backward pass. The
models are defenses of committed runs. The rows that compare A3 with AutoAttack are its proof: at most AutoAttack's
robust accuracy + 0.1 points, with at most 1/20 of its forward and 1/8 of its backward passes, in at most 1/12 of its
time, on images and models on which A3 was not developed.
Command: `grfd bench passes --save results/attack_passes.json`. `grfd page` writes docs/attacks.md from the file.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich import box
from rich.table import Table
from torch import nn

from grfd.api.job import load_data, open_run
from grfd.api.using import load_defense
from grfd.attacks.registry import ALL_ATTACKS
from grfd.bench.attacks import still_right
from grfd.bench.libraries import LIBRARIES, THIS_LIBRARY, Budget, installed, run_foreign
from grfd.bench.ours import run_ours
from grfd.bench.saved import read_rows, write_rows
from grfd.bench.victims import Victim
from grfd.data.record import Split, as_images
from grfd.errors import UserError
from grfd.memory import keep_freed_memory
from grfd.progress import progress
from grfd.types import Images, Logits

PASSES_MODELS = (
    *(f"results/threat-models/short-seed-0/{name}" for name in ("standard", "grfd", "pgd-at", "trades", "grfd-robust")),
    "results/mnist-lenet5/grfd",
    *(f"results/threat-models/cifar10-small-seed-0/{name}" for name in ("standard", "pgd-at", "trades")),
)
"""RUN/DEFENSE of each model that is measured unless others are named."""


class Attempted(NamedTuple):
    """One attack at one budget, and the libraries that run it besides ours."""

    attack: str
    changes: dict[str, Any]
    """What its budget changes in `Budget`."""
    libraries: tuple[str, ...] = ()


_QUICK_LIBRARIES = ("torchattacks", "art", "foolbox")
_AUTOATTACK_LIBRARIES = ("torchattacks", "pyautoattack")

PASSES_ATTACKS: tuple[Attempted, ...] = (
    Attempted("a3", {}),
    Attempted("quick", {}),
    Attempted("aa", {"queries": 5000}),
    Attempted("fgsm", {}, _QUICK_LIBRARIES),
    *(Attempted("pgd", {"steps": steps}, _QUICK_LIBRARIES) for steps in (5, 10, 20, 50)),
    *(
        Attempted(name, {"steps": steps}, ("torchattacks",))
        for name in ("bim", "mifgsm", "eotpgd", "vmifgsm")
        for steps in (5, 20)
    ),
    *(Attempted("apgd_ce", {"steps": steps}, _AUTOATTACK_LIBRARIES) for steps in (10, 25, 50, 100)),
    *(
        Attempted(name, {"steps": steps}, _AUTOATTACK_LIBRARIES)
        for name in ("apgd_dlr", "fab_t")
        for steps in (25, 100)
    ),
    *(Attempted("apgd_t", {"steps": steps}, _AUTOATTACK_LIBRARIES) for steps in (10, 25, 100)),
    *(Attempted("square", {"queries": queries}, ("art", *_AUTOATTACK_LIBRARIES)) for queries in (100, 500, 2000)),
)
"""What is run: attacks in L∞ that spend a budget of gradients or logits.

AutoAttack of the original is compared by `grfd bench parity`, which also says how long it takes.
"""


@dataclass(frozen=True)
class PassesRow:
    """What one attack costs and leaves. Passes are per image of the `examples`; `robust` is in [0, 1]."""

    library: str
    attack: str
    budget: int
    model: str
    examples: int
    robust: float
    forward: float
    backward: float
    seconds: float


class Metered(nn.Module):
    """A model that counts the images of its forward and of its backward passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_passes = 0
        self.backward_passes = 0
        self._lock = threading.Lock()  # row-parallel passes count at the same time

    def forward(self, images: Images) -> Logits:
        with self._lock:
            self.forward_passes += len(images)
        logits: Logits = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: torch.Tensor) -> None:
        with self._lock:
            self.backward_passes += len(gradient)


@dataclass(frozen=True)
class PassesRequest:
    """What is measured: models as RUN/DEFENSE, attacks by name (none: all), and the number of test images.

    `data_dir`: the folder of CIFAR's files. Raises `UserError` for an unknown attack, and for a model of another form.
    """

    models: tuple[str, ...] = PASSES_MODELS
    attacks: tuple[str, ...] = ()
    examples: int = 1000
    save: Path | None = None
    data_dir: Path | None = None
    known: tuple[str, ...] = field(default=tuple(dict.fromkeys(each.attack for each in PASSES_ATTACKS)), init=False)

    def __post_init__(self) -> None:
        for name in self.attacks:
            if name not in self.known:
                raise UserError(f"unknown attack {name!r}: expected one of {', '.join(self.known)}")
        for model in self.models:
            if "/" not in model:
                raise UserError(f"unknown model {model!r}: expected RUN/DEFENSE, as in {PASSES_MODELS[0]}")


def measure_passes(request: PassesRequest) -> list[PassesRow]:
    """Runs every attack on every model, one after the other. Rows that `save` already contains are not measured again.

    Raises `UserError` for a model that is not there, and for a file of another machine, version or number of images.
    """
    keep_freed_memory()
    rows = read_rows(request.save, request.examples, PassesRow) if request.save else []
    todo = [each for each in PASSES_ATTACKS if not request.attacks or each.attack in request.attacks]
    victims = {model: _load_victim(model, request) for model in request.models}
    total = sum(1 + len(_libraries_of(each)) for each in todo) * len(victims)
    with progress("passes", total) as advance:
        for model, victim in victims.items():
            for each in todo:
                for library in (THIS_LIBRARY, *_libraries_of(each)):
                    rows = _with_row(rows, (model, library, each), victim)
                    if request.save:
                        write_rows(request.save, rows, request.examples)
                    advance(1, f"{library} {each.attack} {model}")
    wanted = {each.attack for each in todo}
    return [row for row in rows if row.model in request.models and row.attack in wanted]


def _libraries_of(attempted: Attempted) -> tuple[str, ...]:
    there = installed()
    return tuple(name for name in attempted.libraries if name in there and attempted.attack in LIBRARIES[name])


def _load_victim(model: str, request: PassesRequest) -> Victim:
    folder, _, defense = model.rpartition("/")
    run = open_run(folder)
    if request.data_dir is not None and run.config.data != "mnist":  # which comes with the package
        run = replace(run, config=replace(run.config, data_dir=request.data_dir))
    split = load_data(run).test.take(request.examples)
    images = as_images(split.images)
    eps = _eps(images)
    return Victim(load_defense(run, defense=defense).eval(), Split(images, split.labels), eps, 0.0, 0.0)


def _eps(images: Images) -> float:
    """AutoAttack's budget of Table 1: 20/255 on grey images, 4/255 on colour images."""
    entry = ALL_ATTACKS["aa"]
    return float((entry.grey if images.shape[1] == 1 else entry.colour)["eps"])


def _with_row(rows: list[PassesRow], key: tuple[str, str, Attempted], victim: Victim) -> list[PassesRow]:
    """The rows and, unless it is there, that of this (model, library, attempt)."""
    model, library, attempted = key
    size = int(attempted.changes.get("queries", attempted.changes.get("steps", 0)))
    if any((row.model, row.library, row.attack, row.budget) == (model, library, attempted.attack, size)
           for row in rows):  # fmt: skip
        return rows
    budget = Budget(victim.eps, step_size=victim.eps * 8 / 18, classes=_classes(victim), **attempted.changes)
    metered = Metered(victim.network).eval()
    run: Callable[..., Images] = run_ours if library == THIS_LIBRARY else lambda *each: run_foreign(library, *each)
    started = time.perf_counter()
    adversarial = run(attempted.attack, metered, victim.test.images, victim.test.labels, budget)
    seconds = time.perf_counter() - started
    robust = float(still_right(victim.network, adversarial, victim, budget).mean())
    count = len(victim.test)
    forward, backward = metered.forward_passes / count, metered.backward_passes / count
    return [*rows, PassesRow(library, attempted.attack, size, model, count, robust, forward, backward, seconds)]


def _classes(victim: Victim) -> int:
    with torch.no_grad():
        return int(victim.network(victim.test.images[:1]).shape[1])


@dataclass(frozen=True)
class Proof:
    """A3 beside AutoAttack on one model: robust accuracies in [0, 1], and how many times fewer passes and seconds."""

    model: str
    attack: str
    robust: float
    reference: float
    forward: float
    backward: float
    seconds: float


def proofs(rows: list[PassesRow], attack: str) -> list[Proof]:
    """One line for each model that was attacked by `attack` and by AutoAttack."""
    ours = {row.model: row for row in rows if row.library == THIS_LIBRARY and row.attack == attack}
    reference = {row.model: row for row in rows if row.library == THIS_LIBRARY and row.attack == "aa"}
    return [
        Proof(
            model, attack, ours[model].robust, each.robust, each.forward / ours[model].forward,
            each.backward / ours[model].backward, each.seconds / ours[model].seconds,
        )
        for model, each in reference.items() if model in ours
    ]  # fmt: skip


def passes_table(rows: list[PassesRow]) -> Table:
    """One line for each attack, budget and library: what is left, and passes and seconds."""
    columns = ("model", "attack", "budget", "library", "robust, %", "forward", "backward", "seconds")
    table = Table(*columns, box=box.SIMPLE_HEAD, title="Passes per image, and the robust accuracy that they leave")
    for row in rows:
        numbers = (f"{100 * row.robust:.1f}", f"{row.forward:.1f}", f"{row.backward:.1f}", f"{row.seconds:.1f}")
        table.add_row(row.model, row.attack, str(row.budget or "–"), row.library, *numbers)
    return table


def proof_table(lines: list[Proof]) -> Table:
    """One line for each model: both robust accuracies, and how many times less A3 takes."""
    columns = ("model", "robust, %", "AutoAttack", "fewer forward", "fewer backward", "faster")
    table = Table(*columns, box=box.SIMPLE_HEAD, title=f"{ALL_ATTACKS[lines[0].attack].title} beside AutoAttack")
    for line in lines:
        numbers = (f"{100 * line.robust:.1f}", f"{100 * line.reference:.1f}")
        table.add_row(line.model, *numbers, *(f"{each:.1f} ×" for each in (line.forward, line.backward, line.seconds)))
    return table
