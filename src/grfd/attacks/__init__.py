"""Attacks: pure functions (model, images, labels, *, eps, …) -> adversarial images, untargeted, L∞ or L2.

All of them return images inside the ε-ball and [0, 1]; freeze the model's parameters while they run and leave its
mode alone (so call `model.eval()` first: in training mode batch norm would learn from the attack); work under
`torch.no_grad()`; and draw from `generator` alone where one is given. A prediction with NaN in it counts as wrong.
"""

from collections.abc import Callable

from grfd.attacks._advgan import advgan
from grfd.attacks._apgd import apgd_ce, apgd_dlr, apgd_t
from grfd.attacks._autoattack import aa_torchattacks, autoattack
from grfd.attacks._bim import bim
from grfd.attacks._cw import cw
from grfd.attacks._eotpgd import eotpgd
from grfd.attacks._fab import fab, fab_t
from grfd.attacks._fgsm import fgsm
from grfd.attacks._hmcam import hmcam
from grfd.attacks._mifgsm import mifgsm
from grfd.attacks._pgd import pgd
from grfd.attacks._pixle import pixle
from grfd.attacks._rfgsm import rfgsm
from grfd.attacks._square import square
from grfd.attacks._vmifgsm import vmifgsm
from grfd.attacks.budgets import OTHER_BUDGETS, TABLE_1, TORCHATTACKS, TRANSFER
from grfd.types import Images

Attack = Callable[..., Images]

ATTACKS: dict[str, Attack] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "aa": autoattack,
    "eotpgd": eotpgd,
    "vmifgsm": vmifgsm,
}
"""The paper's five, in the order of its tables; `aa` is AutoAttack, standard."""

OTHER_ATTACKS: dict[str, Attack] = {
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
"""AutoAttack as TorchAttacks has it, AutoAttack's parts, and the attacks of the paper's section 2.1."""

L2_ATTACKS = ("fgsm", "pgd", "eotpgd", "aa", "aa_torchattacks", "apgd_ce", "apgd_dlr", "apgd_t", "fab",
              "fab_t", "square")  # fmt: skip
"""Those that take `norm="l2"`. `cw` knows no other norm."""

THREATS: dict[str, str] = dict.fromkeys([*ATTACKS, *OTHER_ATTACKS], "linf") | {"cw": "l2", "pixle": "pixels"}
"""What each attack's budget bounds in the judge: the largest change of a pixel, the Euclidean length, or nothing but
where pixels are set down. Attacks of different threat models never share a worst case."""

__all__ = [
    "ATTACKS",
    "L2_ATTACKS",
    "OTHER_ATTACKS",
    "OTHER_BUDGETS",
    "TABLE_1",
    "THREATS",
    "TORCHATTACKS",
    "TRANSFER",
    "Attack",
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
