"""Attacks: pure functions (model, images, labels, *, eps, …) -> adversarial images, untargeted, L∞ or L2.

All of them return images inside the ε-ball and [0, 1]; freeze the model's parameters while they run and leave its
mode alone (so call `model.eval()` first: in training mode batch norm would learn from the attack); work under
`torch.no_grad()`; and draw from `generator` alone where one is given. A prediction with NaN in it counts as wrong.
"""

from collections.abc import Callable
from typing import Any

from grfd.attacks.advgan import advgan
from grfd.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from grfd.attacks.autoattack import aa, aa_torchattacks, autoattack
from grfd.attacks.bim import bim
from grfd.attacks.cw import cw
from grfd.attacks.eotpgd import eotpgd
from grfd.attacks.fab import fab, fab_t
from grfd.attacks.fgsm import fgsm
from grfd.attacks.hmcam import hmcam
from grfd.attacks.mifgsm import mifgsm
from grfd.attacks.pgd import pgd
from grfd.attacks.pixle import pixle
from grfd.attacks.rfgsm import rfgsm
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
    "autoattack": autoattack,
    "aa_torchattacks": aa_torchattacks,
    "apgd_ce": apgd_ce,
    "apgd_dlr": apgd_dlr,
    "apgd_t": apgd_t,
    "fab": fab,
    "fab_t": fab_t,
    "square": square,
    "bim": bim,
    "rfgsm": rfgsm,
    "mifgsm": mifgsm,
    "cw": cw,
    "pixle": pixle,
    "hmcam": hmcam,
    "advgan": advgan,
}
"""AutoAttack and its parts, and the attacks of the paper's section 2.1."""

L2_ATTACKS = ("fgsm", "pgd", "eotpgd", "aa", "autoattack", "aa_torchattacks", "apgd_ce", "apgd_dlr", "apgd_t", "fab",
              "fab_t", "square")  # fmt: skip
"""Those that take `norm="l2"`. `cw` knows no other norm."""

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
    "bim": {"active_set": False, "loss": "literal_cross_entropy", "keep": "last"},
    "rfgsm": {"active_set": False, "loss": "literal_cross_entropy", "keep": "last"},
    "mifgsm": {"active_set": False, "loss": "literal_cross_entropy", "keep": "last", "momentum_floor": 0.0},
}
"""Keywords under which an attack is that of TorchAttacks 3.5.1, the paper's library, faults included. `aa` has none:
TorchAttacks' own is another attack, `aa_torchattacks`."""

__all__ = [
    "ATTACKS",
    "L2_ATTACKS",
    "OTHER_ATTACKS",
    "TABLE_1",
    "TORCHATTACKS",
    "Attack",
    "aa",
    "aa_torchattacks",
    "advgan",
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "autoattack",
    "bim",
    "cw",
    "eotpgd",
    "fab",
    "fab_t",
    "fgsm",
    "hmcam",
    "mifgsm",
    "pgd",
    "pixle",
    "rfgsm",
    "square",
    "vmifgsm",
]
