"""Attacks: pure functions (model, images, labels, *, eps, …) -> adversarial images. They are untargeted.

Every attack returns images inside the ε-ball and [0, 1]. It freezes the model's parameters while it runs, and it works
under `torch.no_grad()`. Where a `generator` is given, it draws from this generator only. It does not change the model's
mode, so call `model.eval()` first: in training mode, batch norm would learn from the attack. A prediction that contains
NaN counts as wrong.
"""

from grfd.attacks._a3 import a3
from grfd.attacks._advgan import advgan, se_advgan
from grfd.attacks._apgd import apgd_ce, apgd_dlr, apgd_t
from grfd.attacks._autoattack import aa_torchattacks, autoattack
from grfd.attacks._bim import bim
from grfd.attacks._cw import cw
from grfd.attacks._ddn import ddn
from grfd.attacks._deepfool import deepfool
from grfd.attacks._eotpgd import eotpgd
from grfd.attacks._fab import fab, fab_t
from grfd.attacks._fgsm import fgsm
from grfd.attacks._fmn import fmn
from grfd.attacks._hmcam import hmcam
from grfd.attacks._hopskipjump import hopskipjump
from grfd.attacks._mifgsm import mifgsm
from grfd.attacks._pgd import pgd
from grfd.attacks._pixle import pixle
from grfd.attacks._rfgsm import rfgsm
from grfd.attacks._simba import simba
from grfd.attacks._square import square
from grfd.attacks._vmifgsm import vmifgsm
from grfd.attacks.registry import ALL_ATTACKS, DEFAULT_ATTACKS, TABLE_1_ATTACKS, Attack, AttackEntry

__all__ = [
    "ALL_ATTACKS",
    "DEFAULT_ATTACKS",
    "TABLE_1_ATTACKS",
    "Attack",
    "AttackEntry",
    "a3",
    "aa_torchattacks",
    "advgan",
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "autoattack",
    "bim",
    "cw",
    "ddn",
    "deepfool",
    "eotpgd",
    "fab",
    "fab_t",
    "fgsm",
    "fmn",
    "hmcam",
    "hopskipjump",
    "mifgsm",
    "pgd",
    "pixle",
    "rfgsm",
    "se_advgan",
    "simba",
    "square",
    "vmifgsm",
]
