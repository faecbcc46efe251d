"""`grfd bench attacks` and `grfd bench parity`: our attacks and other libraries' on the same models and images.

Aim: on an undefended model, PGD-100 is at least twice as fast as in TorchAttacks and ART, EOTPGD and VMIFGSM are three
times as fast, and AutoAttack is twice as fast as the original, each at equal or lower robust accuracy. docs/attacks.md
says where this is reached. `--attacks` and `--models` select a part of the measurements.
Commands: `grfd bench attacks --save results/attack_speed.json`, and `grfd bench parity --repeats 1 --save
results/attack_parity.json`. `grfd page` writes docs/attacks.md from both files.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.table import Table
from torch import nn

from grfd.bench.libraries import LIBRARIES, THIS_LIBRARY, Budget, installed, run_foreign
from grfd.bench.ours import run_ours
from grfd.bench.saved import read_rows, write_rows
from grfd.bench.victims import VICTIM_RECIPES, Victim, load_victims
from grfd.errors import UserError
from grfd.memory import keep_freed_memory
from grfd.progress import progress
from grfd.types import Images

_TOO_SLOW = {("torchattacks", "pixle"), ("art", "cw l2")}
"""Left out: there, Pixle goes image by image and C&W class by class. The oracle tests run them on fewer images."""

SPEED_BUDGETS: dict[str, Budget] = {
    "pgd": Budget(0, steps=100),
    "eotpgd": Budget(0, steps=100),
    "vmifgsm": Budget(0, steps=100),
    "apgd_ce": Budget(0, steps=100),
    "apgd_t": Budget(0, steps=100),
    "square": Budget(0, queries=1000),
    "aa": Budget(0, steps=100, queries=5000),
}
"""The attacks that are timed. ε is the victim's, and the step size is 8/18 of it, as in Table 1."""

PARITY_BUDGETS: dict[str, Budget] = {
    **{name: Budget(0, steps=40) for name in ("fgsm", "pgd", "bim", "rfgsm", "eotpgd", "mifgsm", "vmifgsm")},
    **{name: Budget(0, steps=100) for name in ("apgd_ce", "apgd_dlr", "apgd_t")},
    **{name: Budget(0, steps=20) for name in ("fab", "fab_t")},
    "square": Budget(0, queries=1500),
    "pixle": Budget(0),
    "aa": Budget(0, queries=500),
    "aa_torchattacks": Budget(0),
    "pgd l2": Budget(0, steps=50),
    **{name: Budget(0, steps=100) for name in ("apgd_ce l2", "apgd_t l2", "cw l2")},
    "fab_t l2": Budget(0, steps=20),
    "square l2": Budget(0, queries=1500),
    **{name: Budget(0, steps=100) for name in ("apgd_ce l1", "apgd_t l1")},
    "fab_t l1": Budget(0, steps=20),
    "square l1": Budget(0, queries=1500),
    "aa l1": Budget(0, queries=500),
}
"""The attacks that are compared with every library that has them. APGD takes the original's 100 steps, because its
checkpoints are rounded differently at other numbers of steps."""


@dataclass(frozen=True)
class Measured:
    """One row of the table. `seconds` is the median over the repeats, `robust` the robust accuracy after the attack."""

    library: str
    attack: str
    model: str
    examples: int
    repeats: int
    seconds: float
    robust: float


@dataclass(frozen=True)
class Comparison:
    """What is compared: attacks with their budgets (all attacks if none is named), models, test images and repeats.

    Raises `UserError` for an attack without a budget here.
    """

    budgets: dict[str, Budget]
    attacks: tuple[str, ...] = ()
    models: tuple[str, ...] = tuple(VICTIM_RECIPES)
    examples: int = 500
    repeats: int = 3

    def __post_init__(self) -> None:
        for name in self.attacks:
            if name not in self.budgets:
                raise UserError(f"unknown attack {name!r}: expected one of {', '.join(self.budgets)}")


@dataclass(frozen=True)
class _Match:
    """One attack on one model, and the libraries that have it."""

    model: str
    attack: str
    libraries: tuple[str, ...]


def budget_for(attack: str, victim: Victim, budgets: dict[str, Budget]) -> Budget:
    """The budget with the victim's ε. For Pixle, which has no ε, it is 1."""
    norm = attack.rpartition(" ")[2] if attack.endswith((" l2", " l1")) else "linf"
    eps = 1.0 if attack == "pixle" else {"linf": victim.eps, "l2": victim.eps_l2, "l1": victim.eps_l1}[norm]
    return replace(budgets[attack], eps=eps, step_size=eps * 8 / 18, norm=norm)


def still_right(model: nn.Module, adversarial: Images, victim: Victim, budget: Budget) -> np.ndarray:
    """Whether each example is right after the attack. Perturbations longer than the budget allows are not counted."""
    change = (adversarial - victim.test.images).flatten(1)
    size = change.norm(p={"linf": torch.inf, "l2": 2, "l1": 1}[budget.norm], dim=1)
    with torch.no_grad():
        right = model(adversarial).argmax(1) == victim.test.labels
        clean = model(victim.test.images).argmax(1) == victim.test.labels
    return torch.where(size <= budget.eps * (1 + 1e-4) + 1e-6, right, clean).numpy()


def compare(comparison: Comparison, folder: Path, save: Path | None = None) -> list[Measured]:
    """Runs the libraries in turn, `repeats` times. Raises `UserError` for an unknown model.

    `folder`: where the models are kept. `save`: a JSON file to which the rows of each attack are added. Rows that it
    already contains are not measured again. Freed memory is kept for all libraries alike, because page faults would
    slow down some of them more than others.
    """
    keep_freed_memory()
    saved = read_rows(save, comparison.examples, Measured) if save else []
    victims = load_victims(folder, comparison.models, comparison.examples)
    attacks = comparison.attacks or tuple(comparison.budgets)
    matches = [_Match(model, name, tuple(_libraries(name))) for model in comparison.models for name in attacks]
    measured: list[Measured] = []
    with progress("attacks", sum(len(match.libraries) for match in matches) * comparison.repeats) as advance:
        for match in matches:
            known = [line for line in saved if (line.model, line.attack) == (match.model, match.attack)]
            if {line.library for line in known} == set(match.libraries):
                measured += known
                advance(len(match.libraries) * comparison.repeats, "")
                continue
            victim = victims[match.model]
            budget = budget_for(match.attack, victim, comparison.budgets)
            measured += _measure(match, victim, budget, comparison.repeats, advance)
            if save:
                others = [line for line in saved if line not in known]
                saved = [*others, *(line for line in measured if line not in others)]
                write_rows(save, saved, comparison.examples)
    return measured


def _measure(
    match: _Match, victim: Victim, budget: Budget, repeats: int, advance: Callable[[int, str], None]
) -> list[Measured]:
    """Runs one attack of every library, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in match.libraries}
    robust: dict[str, float] = {}
    for _ in range(repeats):
        for name in match.libraries:
            started = time.perf_counter()
            adversarial = _run(name, match.attack, victim, budget)
            seconds[name].append(time.perf_counter() - started)
            robust[name] = float(still_right(victim.network, adversarial, victim, budget).mean())
            advance(1, f"{name} {match.attack} {match.model}: {seconds[name][-1]:.1f} s")
    return [
        Measured(
            library=name,
            attack=match.attack,
            model=match.model,
            examples=len(victim.test),
            repeats=repeats,
            seconds=statistics.median(seconds[name]),
            robust=robust[name],
        )
        for name in match.libraries
    ]


def _libraries(attack: str) -> Iterator[str]:
    yield THIS_LIBRARY
    yield from (name for name in installed() if attack in LIBRARIES[name] and (name, attack) not in _TOO_SLOW)


def _run(library: str, attack: str, victim: Victim, budget: Budget) -> Images:
    arguments = (attack, victim.network, victim.test.images, victim.test.labels, budget)
    return run_ours(*arguments) if library == THIS_LIBRARY else run_foreign(library, *arguments)


def comparison_table(measured: list[Measured]) -> Table:
    """A table for the terminal: each library's seconds, also as a multiple of ours, and the robust accuracy."""
    ours = {(line.attack, line.model): line.seconds for line in measured if line.library == THIS_LIBRARY}
    table = Table("model", "attack", "library", "seconds", "× ours", "robust, %", box=box.SIMPLE_HEAD)
    for line in measured:
        ratio = line.seconds / ours[line.attack, line.model]
        style = "bold" if line.library == THIS_LIBRARY else ""
        cells = (f"{line.seconds:.1f}", f"{ratio:.2f}", f"{100 * line.robust:.1f}")
        table.add_row(line.model, line.attack, line.library, *cells, style=style)
    return table
