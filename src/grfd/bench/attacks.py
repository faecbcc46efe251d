"""`grfd bench attacks` and `grfd bench parity`: our attacks beside other libraries', on the same models and images.

Claim: PGD-100 at least twice as fast as TorchAttacks and ART on an undefended model, EOTPGD and VMIFGSM three times,
AutoAttack twice as fast as the original, each at equal or lower robust accuracy. What was measured is in
`results/attack_speed.json`. `--attacks` and `--models` choose a part of it.
Command: `grfd bench attacks --save results/attack_speed.json`, and `grfd bench parity --repeats 1 --save
results/attack_parity.json`; `grfd page` makes docs/attacks.md of both.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Table
from torch import Tensor, nn

from grfd.attacks import ATTACKS, L2_ATTACKS, OTHER_ATTACKS
from grfd.bench.libraries import LIBRARIES, PACKAGES, Budget, installed, run_foreign
from grfd.bench.victims import VICTIMS, Victim, victims
from grfd.errors import UserError
from grfd.memory import keep_freed_memory
from grfd.progress import progress
from grfd.runs import provenance, write_json
from grfd.seeds import generator
from grfd.types import Images, Labels

OURS = "grfd"
TOO_SLOW = {("torchattacks", "pixle"), ("art", "cw l2")}
"""Left out: Pixle goes image by image there, C&W class by class; the oracle tests run them on fewer images."""


@dataclass(frozen=True)
class Measured:
    """One line of the table: `seconds` is the median over the repeats, `robust` the share that is right after it."""

    library: str
    attack: str
    model: str
    examples: int
    repeats: int
    seconds: float
    robust: float


OUR_KEYWORDS: dict[str, Callable[[Budget], dict]] = {
    "fgsm": lambda b: {},
    **{
        name: lambda b: {"step_size": b.step_size, "steps": b.steps}
        for name in ("pgd", "bim", "eotpgd", "mifgsm", "vmifgsm")
    },
    "rfgsm": lambda b: {"steps": b.steps},
    **{name: lambda b: {"steps": b.steps} for name in ("apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t")},
    "square": lambda b: {"n_queries": b.queries},
    "aa": lambda b: {"steps": b.steps, "n_queries": b.queries},
    "aa_torchattacks": lambda b: {},
    "cw": lambda b: {"steps": b.steps},
    "pixle": lambda b: {},
}


def run_ours(attack: str, model: nn.Module, images: Images, labels: Labels, budget: Budget) -> Images:
    """Ours under the same budget."""
    name = attack.removesuffix(" l2")
    norm = {"norm": budget.norm} if name in L2_ATTACKS else {}
    stream = generator(budget.seed, "bench", attack)
    made = {**ATTACKS, **OTHER_ATTACKS}[name]
    return made(model, images, labels, eps=budget.eps, **OUR_KEYWORDS[name](budget), **norm, generator=stream)


def robust(model: nn.Module, adversarial: Images, victim: Victim, budget: Budget) -> np.ndarray:
    """Whether each example is right after the attack, longer perturbations than the budget's not counted."""
    change = (adversarial - victim.test.images).flatten(1)
    size = change.abs().amax(1) if budget.norm == "linf" else change.norm(dim=1)
    with torch.no_grad():
        right = model(adversarial).argmax(1) == victim.test.labels
        clean = model(victim.test.images).argmax(1) == victim.test.labels
    return torch.where(size <= budget.eps * (1 + 1e-4) + 1e-6, right, clean).numpy()


BENCHED: dict[str, Budget] = {
    "pgd": Budget(0, steps=100),
    "eotpgd": Budget(0, steps=100),
    "vmifgsm": Budget(0, steps=100),
    "apgd_ce": Budget(0, steps=100),
    "apgd_t": Budget(0, steps=100),
    "square": Budget(0, queries=1000),
    "aa": Budget(0, steps=100, queries=5000),
}
"""What is timed; ε is the victim's, the step size 8/18 of it as in Table 1."""

PARITY: dict[str, Budget] = {
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
}
"""What is set beside every library that has it. APGD has the original's own 100 steps: its checkpoints round otherwise
at other numbers."""


def budget_for(attack: str, victim: Victim, budgets: dict[str, Budget]) -> Budget:
    """The budget with the victim's ε. Pixle knows none."""
    norm = "l2" if attack.endswith(" l2") else "linf"
    eps = 1.0 if attack == "pixle" else victim.eps_l2 if norm == "l2" else victim.eps
    return replace(budgets[attack], eps=eps, step_size=eps * 8 / 18, norm=norm)


def bench(
    folder: Path,
    attacks: tuple[str, ...] = (),
    models: tuple[str, ...] = tuple(VICTIMS),
    examples: int = 500,
    repeats: int = 3,
    budgets: dict[str, Budget] = BENCHED,
    save: Path | None = None,
) -> list[Measured]:
    """Library beside library, in turn, `repeats` times over. Raises `UserError` for unknown names.

    `save`: a JSON file that grows with each attack; what it holds of this machine, these versions and as many examples
    is not measured again. Freed memory is kept, for all of them alike: whichever is slower by page faults would lose.
    """
    attacks = attacks or tuple(budgets)
    for name in attacks:
        if name not in budgets:
            raise UserError(f"unknown attack {name!r}: expected one of {', '.join(budgets)}")
    keep_freed_memory()
    done = stored(save, examples) if save else []
    found = victims(folder, models, examples)
    groups = [(model, attack, list(_libraries(attack))) for model in models for attack in attacks]
    measured: list[Measured] = []
    with progress("attacks", sum(len(names) for _, _, names in groups) * repeats) as advance:
        for model, attack, names in groups:
            held = [line for line in done if (line.model, line.attack) == (model, attack)]
            if {line.library for line in held} == set(names):
                measured += held
                advance(len(names) * repeats, "")
                continue
            budget = budget_for(attack, found[model], budgets)
            measured += _measured(model, attack, names, found[model], budget, repeats, advance)
            if save:
                others = [line for line in done if line not in held]
                done = [*others, *(line for line in measured if line not in others)]
                write_json(save, as_record(done, examples))
    return measured


def _measured(
    model: str,
    attack: str,
    names: list[str],
    victim: Victim,
    budget: Budget,
    repeats: int,
    advance: Callable[[int, str], None],
) -> list[Measured]:
    """One attack of every library, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    left: dict[str, float] = {}
    for _ in range(repeats):
        for name in names:
            started = time.perf_counter()
            adversarial = _run(name, attack, victim, budget)
            seconds[name].append(time.perf_counter() - started)
            left[name] = float(robust(victim.network, adversarial, victim, budget).mean())
            advance(1, f"{name} {attack} {model}: {seconds[name][-1]:.1f} s")
    count = len(victim.test)
    return [
        Measured(name, attack, model, count, repeats, statistics.median(seconds[name]), left[name]) for name in names
    ]


def as_record(measured: list[Measured], examples: int) -> dict[str, Any]:
    """The content of results/attack_speed.json and results/attack_parity.json."""
    libraries = {name: version(PACKAGES[name]) for name in installed()}
    about = {"examples": examples, "seed": 0, "libraries": libraries}
    return {"rows": as_rows(measured), **about, **provenance()}


def stored(save: Path, examples: int) -> list[Measured]:
    """What a file holds already. Raises `UserError` where it is of another machine, other versions or examples."""
    if not save.exists():
        return []
    record, now = json.loads(save.read_text()), as_record([], examples)
    for name in ("examples", "libraries", "versions", "machine"):
        if record.get(name) != now[name]:
            raise UserError(f"{save} was measured with {name} {record.get(name)}, now {now[name]}: choose another file")
    try:
        return [Measured(**row) for row in record["rows"]]
    except TypeError as error:
        raise UserError(f"{save} holds rows of another kind of benchmark: choose another file") from error


def _libraries(attack: str) -> Iterator[str]:
    yield OURS
    yield from (name for name in installed() if attack in LIBRARIES[name] and (name, attack) not in TOO_SLOW)


def _run(library: str, attack: str, victim: Victim, budget: Budget) -> Tensor:
    shown = (attack, victim.network, victim.test.images, victim.test.labels, budget)
    return run_ours(*shown) if library == OURS else run_foreign(library, *shown)


def printed(measured: list[Measured]) -> Table:
    """A table for the terminal: how many times as long as ours each library took, and what it left standing."""
    ours = {(line.attack, line.model): line.seconds for line in measured if line.library == OURS}
    table = Table("model", "attack", "library", "seconds", "÷ ours", "robust, %", box=box.SIMPLE_HEAD)
    for line in measured:
        ratio = line.seconds / ours[line.attack, line.model]
        style = "bold" if line.library == OURS else ""
        cells = (f"{line.seconds:.1f}", f"{ratio:.2f}", f"{100 * line.robust:.1f}")
        table.add_row(line.model, line.attack, line.library, *cells, style=style)
    return table


def as_rows(measured: list[Measured]) -> list[dict]:
    return [asdict(line) for line in measured]
