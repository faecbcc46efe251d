"""Budgets: the keywords of an attack within a ball of any norm and radius, and the usual radius of each norm."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from grfd.attacks.registry import ALL_ATTACKS, Keywords, entry_of
from grfd.attacks.threat import Norm
from grfd.errors import UserError

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
"""The norms of `grfd evaluate --norm`."""

NORM_TITLES = {"linf": "L∞", "l2": "L2", "l1": "L1"}
"""Norm → how it is printed."""

USUAL_EPS: dict[str, tuple[float, float]] = {"linf": (18 / 255, 4 / 255), "l2": (1.5, 0.5), "l1": (10.0, 12.0)}
"""Norm → the usual ε on grey images (MNIST) and on colour images (CIFAR). L∞: that of Table 1's iterative attacks.

L2 and L1 on colour images are those of Croce & Hein 2021 (arXiv 2103.01208). L1 on grey images is that of Maini et al.
2020 (arXiv 1909.04068). Their L2 on MNIST, 2.0, leaves an undefended network nothing, so ours is that of C&W, 1.5.
"""


class Ball(NamedTuple):
    """What an attacker may change: all perturbations whose length in `norm` is at most `eps`, inside the box.

    `eps` is in pixels of [0, 1]. Infinity: no bound, which a minimal-norm attack takes to measure distances.
    """

    norm: Norm
    eps: float

    def __str__(self) -> str:
        bound = "smallest perturbation" if math.isinf(self.eps) else f"ε = {self.eps:.4g}"
        return f"{NORM_TITLES[self.norm]}, {bound}"


def norms_of(name: str) -> tuple[str, ...]:
    """The norms in which an attack's perturbation can be bounded; empty for an attack that moves pixels."""
    entry = entry_of(name)
    return entry.norms or (() if entry.threat == "pixels" else (entry.threat,))


def unsupported(attacks: Sequence[str], norm: str) -> str | None:
    """The mistake if an attack does not support a norm; None if all do."""
    for name in attacks:
        if norm not in norms_of(name):
            able = ", ".join(other for other in ALL_ATTACKS if norm in norms_of(other))
            own = " and ".join(NORM_TITLES[each] for each in norms_of(name)) or "no norm: it moves pixels"
            return f"attack {name} does not support {NORM_TITLES[norm]}, but {own}. These do: {able}"
    return None


def keywords_of(name: str, grey: bool) -> Keywords:
    """The keywords of an attack within its budget of the registry."""
    entry = entry_of(name)
    return entry.grey if grey else entry.colour


def keywords_within(name: str, ball: Ball, grey: bool) -> Keywords:
    """The keywords of an attack within a ball. A step size keeps its ratio to ε.

    Raises `UserError` if the attack does not support the norm.
    """
    if problem := unsupported((name,), ball.norm):
        raise UserError(problem)
    base = keywords_of(name, grey)
    norm = {"norm": ball.norm} if entry_of(name).norms else {}
    step = {"step_size": base["step_size"] * ball.eps / base["eps"]} if "step_size" in base else {}
    return base | norm | {"eps": ball.eps} | step
