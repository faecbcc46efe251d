"""What an evaluation is asked for: protocols, attacks, number of images, threat model and target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grfd import schema
from grfd.attacks import ALL_ATTACKS, DEFAULT_ATTACKS, TABLE_1_ATTACKS
from grfd.attacks.budgets import NORMS, USUAL_EPS, Ball, norms_of, unsupported
from grfd.attacks.registry import entry_of
from grfd.evaluation.protocols import PROTOCOLS

LEAST_LIKELY = "least-likely"
"""The target that is the class with the smallest logit for the clean image."""
EVERY_TARGET = "all"
"""Each class is the target in turn."""


def attacks_for(wanted: Sequence[str] | None, norm: str | None) -> tuple[str, ...]:
    """The attacks of a request: those that are wanted, or the default ones as far as they support the norm.

    In L1, which none of them supports, it is AutoAttack.
    """
    if wanted is not None:
        return tuple(wanted)
    if norm is None:
        return DEFAULT_ATTACKS
    return tuple(name for name in DEFAULT_ATTACKS if norm in norms_of(name)) or tuple(
        name for name in TABLE_1_ATTACKS if norm in norms_of(name)
    )


@dataclass(frozen=True)
class Request(schema.Settings):
    """What an evaluation is asked for. Its constructor raises `UserError` for unknown names and values out of range.

    Without `norm` and `eps`, each attack has its budget of the registry: that of Table 1 if it is of Table 1.
    """

    protocols: tuple[str, ...] = ("transfer", "whitebox", "adaptive")
    attacks: tuple[str, ...] = DEFAULT_ATTACKS
    examples: schema.Examples = 1000
    """Number of test images to attack, counted from the first."""
    norm: schema.Text | None = None
    """The norm in which ε bounds every perturbation: linf, l2 or l1."""
    eps: tuple[schema.Radius, ...] = ()
    """Values of ε in pixels of [0, 1], in this norm. Several give a robustness curve."""
    target: schema.Text | None = None
    """The class that every image should be mistaken for: its number, least-likely, or all. None: any wrong class."""
    keep_images: bool = False
    """Whether the adversarial images are stored beside the records."""
    corruptions: bool = False
    """Whether the models are judged under common corruptions, too."""
    pass_images: schema.Count | None = None
    """The number of images in one pass that computes gradients. None: as many as fit into memory."""

    def conflict(self) -> str | None:
        return self._wrong_protocol() or self._wrong_attack() or self._wrong_ball() or self._wrong_target()

    def _wrong_protocol(self) -> str | None:
        if not self.protocols:
            return f"no protocol is named: expected at least one of {', '.join(PROTOCOLS)}"
        wrong = [name for name in self.protocols if name not in PROTOCOLS]
        return f"unknown protocol {wrong[0]!r}: expected one of {', '.join(PROTOCOLS)}" if wrong else None

    def _wrong_attack(self) -> str | None:
        if not self.attacks:
            return f"no attack is named: expected at least one of {', '.join(ALL_ATTACKS)}"
        for name in self.attacks:
            entry_of(name)  # raises if there is no such attack, also no such attack of the user's own
        return None

    def _wrong_ball(self) -> str | None:
        if self.norm is not None and self.norm not in NORMS:
            return f"unknown norm {self.norm!r}: expected one of {', '.join(NORMS)}"
        twice = [eps for eps in self.eps if self.eps.count(eps) > 1]
        if twice:
            return f"ε = {twice[0]:g} is given twice"
        if not self.chosen:
            return None
        norm = self.norm or "linf"
        if norm == "linf" and max(self.eps, default=0) > 1:
            return f"ε = {max(self.eps):g} is more than the range of a pixel, 1 (did you mean {max(self.eps):g}/255?)"
        return unsupported(self.attacks, norm)

    def _wrong_target(self) -> str | None:
        if self.target is None or self.target in (LEAST_LIKELY, EVERY_TARGET) or self.target.isdecimal():
            return None
        return f"target {self.target!r}: expected the number of a class, {LEAST_LIKELY} or {EVERY_TARGET}"

    @property
    def chosen(self) -> bool:
        """Whether a threat model was chosen instead of the budgets of the registry."""
        return self.norm is not None or bool(self.eps)

    def balls(self, attack: str, grey: bool) -> list[Ball | None]:
        """The balls within which an attack is run, in the order of ε. None: its budget of the registry.

        A minimal-norm attack is first run without a bound. Its result at each ε follows from that.
        """
        if not self.chosen:
            return [None]
        norm = self.norm or "linf"
        eps = sorted(self.eps) or [USUAL_EPS[norm][0 if grey else 1]]
        unbounded = [math.inf] if entry_of(attack).minimal and not self.target else []
        return [Ball(norm, each) for each in (*unbounded, *eps)]  # type: ignore[arg-type]  # `_wrong_ball` checks it
