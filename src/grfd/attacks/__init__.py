"""Attacks: pure functions (model, images, labels, *, eps, …) -> adversarial images, L∞, untargeted.

All of them return images inside the ε-ball and [0, 1]; freeze the model's parameters while they run and leave its
mode alone (so call `model.eval()` first: in training mode batch norm would learn from the attack); work under
`torch.no_grad()`; and draw from `generator` alone where one is given. A prediction with NaN in it counts as wrong.
"""

from collections.abc import Callable
from typing import Any

from grfd.attacks.apgd import apgd_ce, apgd_t
from grfd.attacks.autoattack import aa
from grfd.attacks.eotpgd import eotpgd
from grfd.attacks.fgsm import fgsm
from grfd.attacks.pgd import pgd
from grfd.attacks.square import square
from grfd.attacks.vmifgsm import vmifgsm
from grfd.types import Images

Attack = Callable[..., Images]

ATTACKS: dict[str, Attack] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "aa": aa,
    "eotpgd": eotpgd,
    "vmifgsm": vmifgsm,
}
"""The paper's five, in the order of its tables."""

OTHER_ATTACKS: dict[str, Attack] = {
    "apgd_ce": apgd_ce,
    "apgd_t": apgd_t,
    "square": square,
}
"""The two parts of `aa`, and the gradient-free attack of the adaptive protocol."""

TABLE_1: dict[str, dict[str, dict[str, Any]]] = {
    "mnist": {
        "fgsm": {"eps": 26 / 255},
        "pgd": {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
        "aa": {"eps": 20 / 255},
        "eotpgd": {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
        "vmifgsm": {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
    },
    "cifar": {
        "fgsm": {"eps": 8 / 255},
        "pgd": {"eps": 1 / 255, "step_size": 1 / 255, "steps": 200},
        "aa": {"eps": 4 / 255},
        "eotpgd": {"eps": 4 / 255, "step_size": 2 / 255, "steps": 10},
        "vmifgsm": {"eps": 4 / 255, "step_size": 2 / 255, "steps": 10},
    },
}
"""The paper's budgets (Table 1), in pixels of [0, 1]. CIFAR-10 and CIFAR-100 share theirs."""

TORCHATTACKS: dict[str, dict[str, Any]] = {
    "fgsm": {"active_set": False, "loss": "literal_cross_entropy"},
    "pgd": {"active_set": False, "loss": "literal_cross_entropy", "keep": "last"},
    "eotpgd": {"active_set": False, "loss": "literal_cross_entropy", "keep": "last"},
    "vmifgsm": {"active_set": False, "loss": "literal_cross_entropy", "keep": "last", "momentum_floor": 0.0},
}
"""Keywords under which an attack is that of TorchAttacks 3.5.1, the paper's library, faults included. `aa` has none:
TorchAttacks' own is another attack (10 steps, FAB-T, Square)."""

__all__ = [
    "ATTACKS",
    "OTHER_ATTACKS",
    "TABLE_1",
    "TORCHATTACKS",
    "Attack",
    "aa",
    "apgd_ce",
    "apgd_t",
    "eotpgd",
    "fgsm",
    "pgd",
    "square",
    "vmifgsm",
]
