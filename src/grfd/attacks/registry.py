"""The registry of attacks. An entry carries all that the evaluation, tables, pages and help texts need."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

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
from grfd.attacks.own import own_attack
from grfd.attacks.threat import Norm
from grfd.errors import UserError
from grfd.types import Images

Attack = Callable[..., Images]
Keywords = dict[str, Any]
Threat = Literal["linf", "l2", "l1", "pixels"]


@dataclass(frozen=True)
class AttackEntry:
    """An attack, what it is called, and the keywords under which it is run.

    - `title`: the heading of its column. `narrow_title`: the same, broken so that a table fits 80 columns.
    - `grey`, `colour`: its budget on grey images (MNIST's) and on colour images (CIFAR-10's and CIFAR-100's).
      ε and step sizes are in pixels of [0, 1]. Those of Table 1 are the paper's. The others are ours: the ε of the
      attack of Table 1 that is most alike.
    - `transfer`: keywords under which it makes examples for *another* model than the one that it sees.
      An example that leaves at its first success lies just behind the source's decision boundary and transfers badly,
      so every attack runs all its steps. A smallest perturbation (`minimal`) is stretched to ε. AutoAttack consists of
      the parts that raise a loss. `aa_torchattacks` returns what TorchAttacks returns, which is the clean image where
      it failed.
    - `passes`: forward passes an image where no image is fooled early (a gradient counts as two more). The remaining
      time of an evaluation is estimated from it.
    - `minimal`: whether it searches for the smallest perturbation. Its ε may then be ∞, and it returns the smallest.
    - `table_1`: whether it is one of the paper's five attacks.
    - `norms`: what its keyword `norm` accepts; empty where it has no such keyword.
    - `threat`: what ε bounds: the largest change of a pixel, the Euclidean length of the change, or nothing, where
      only the pixels' places change. Attacks of different threats never share a worst case.
    - `torchattacks`: keywords under which it equals that of TorchAttacks 3.5.1, the paper's library, faults included.
      None where there are no such keywords. TorchAttacks' own AutoAttack, of ten steps, is `aa_torchattacks`.
    """

    function: Attack
    title: str
    grey: Keywords
    colour: Keywords
    transfer: Keywords
    passes: int = 1000
    table_1: bool = False
    norms: tuple[Norm, ...] = ()
    threat: Threat = "linf"
    minimal: bool = False
    torchattacks: Keywords | None = None
    narrow_title: str | None = None


_BOTH: tuple[Norm, ...] = ("linf", "l2")
_ALL: tuple[Norm, ...] = ("linf", "l2", "l1")
_EPS_GREY: Keywords = {"eps": 18 / 255}
_EPS_COLOUR: Keywords = {"eps": 4 / 255}
_STEPS_GREY: Keywords = {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100}
_STEPS_COLOUR: Keywords = {"eps": 4 / 255, "step_size": 2 / 255, "steps": 10}
_ALL_QUERIES: Keywords = {"active_set": False}
_ALL_STEPS: Keywords = {"active_set": False, "keep": "best"}
_STRETCHED: Keywords = {"active_set": False, "stretch": True}
_LITERAL: Keywords = {"active_set": False, "loss": "literal_cross_entropy"}
_LITERAL_LAST: Keywords = _LITERAL | {"keep": "last"}

ALL_ATTACKS: dict[str, AttackEntry] = {
    "fgsm": AttackEntry(
        fgsm, "FGSM",
        grey={"eps": 26 / 255},
        colour={"eps": 8 / 255},
        transfer=_ALL_QUERIES, torchattacks=_LITERAL, passes=3, table_1=True, norms=_BOTH,
    ),
    "pgd": AttackEntry(
        pgd, "PGD",
        grey={"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
        colour={"eps": 1 / 255, "step_size": 1 / 255, "steps": 200},
        transfer=_ALL_STEPS, torchattacks=_LITERAL_LAST, passes=300, table_1=True, norms=_BOTH,
    ),
    "aa": AttackEntry(
        autoattack, "AA",
        grey={"eps": 20 / 255, "version": "standard"},
        colour={"eps": 4 / 255, "version": "standard"},
        transfer={"active_set": False, "version": "ascent"}, passes=13_000, table_1=True, norms=_ALL,
    ),
    "eotpgd": AttackEntry(
        eotpgd, "EOTPGD",
        grey={"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
        colour={"eps": 4 / 255, "step_size": 2 / 255, "steps": 10},
        transfer=_ALL_STEPS, torchattacks=_LITERAL_LAST, passes=300, table_1=True, norms=_BOTH,
        narrow_title="EOT-\nPGD",
    ),
    "vmifgsm": AttackEntry(
        vmifgsm, "VMIFGSM",
        grey={"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
        colour={"eps": 4 / 255, "step_size": 2 / 255, "steps": 10},
        transfer=_ALL_STEPS, torchattacks=_LITERAL_LAST | {"momentum_floor": 0.0}, passes=1800, table_1=True,
        narrow_title="VMI-\nFGSM",
    ),
    "aa_torchattacks": AttackEntry(
        aa_torchattacks, "AA (TorchAttacks)",
        grey={"eps": 20 / 255},
        colour={"eps": 4 / 255},
        transfer={"as_returned": True}, norms=_BOTH,
    ),
    "a3": AttackEntry(
        a3, "A3",
        grey={"eps": 20 / 255},
        colour={"eps": 4 / 255},
        # where no example leaves early, its further rounds cost ten times as much and hardly transfer better
        transfer=_ALL_QUERIES | {"version": "quick"}, passes=450, norms=_BOTH,
    ),
    "quick": AttackEntry(
        a3, "A3, quick",
        grey={"eps": 20 / 255, "version": "quick"},
        colour={"eps": 4 / 255, "version": "quick"},
        transfer=_ALL_QUERIES, passes=100, norms=_BOTH,
    ),
    "apgd_ce": AttackEntry(apgd_ce, "APGD-CE", _EPS_GREY, _EPS_COLOUR, _ALL_STEPS, norms=_ALL),
    "apgd_dlr": AttackEntry(apgd_dlr, "APGD-DLR", _EPS_GREY, _EPS_COLOUR, _ALL_STEPS, norms=_ALL),
    "apgd_t": AttackEntry(apgd_t, "APGD-T", _EPS_GREY, _EPS_COLOUR, _ALL_STEPS, norms=_ALL),
    "fab": AttackEntry(fab, "FAB", _EPS_GREY, _EPS_COLOUR, _STRETCHED, norms=_ALL, minimal=True),
    "fab_t": AttackEntry(fab_t, "FAB-T", _EPS_GREY, _EPS_COLOUR, _STRETCHED, norms=_ALL, minimal=True),
    "square": AttackEntry(square, "Square", _EPS_GREY, _EPS_COLOUR, _ALL_QUERIES, norms=_ALL),
    "bim": AttackEntry(bim, "BIM", _STEPS_GREY, _STEPS_COLOUR, _ALL_STEPS, passes=300, torchattacks=_LITERAL_LAST),
    "rfgsm": AttackEntry(
        rfgsm, "R+FGSM",
        grey={"eps": 26 / 255},
        colour={"eps": 8 / 255},
        transfer=_ALL_STEPS, torchattacks=_LITERAL_LAST, passes=3,
    ),
    "mifgsm": AttackEntry(
        mifgsm, "MI-FGSM", _STEPS_GREY, _STEPS_COLOUR, _ALL_STEPS, passes=300,
        torchattacks=_LITERAL_LAST | {"momentum_floor": 0.0},
    ),
    "cw": AttackEntry(cw, "C&W (L2)", {"eps": 1.5}, {"eps": 0.5}, _STRETCHED, threat="l2", minimal=True),
    "pixle": AttackEntry(pixle, "Pixle", {}, {}, _ALL_QUERIES, threat="pixels"),
    "hmcam": AttackEntry(hmcam, "HMCAM", _STEPS_GREY, _STEPS_COLOUR, _ALL_QUERIES),
    "advgan": AttackEntry(advgan, "AdvGAN", _EPS_GREY, _EPS_COLOUR, _ALL_QUERIES),
    "se_advgan": AttackEntry(se_advgan, "SE-AdvGAN", _EPS_GREY, _EPS_COLOUR, _ALL_QUERIES),
    "hopskipjump": AttackEntry(
        hopskipjump, "HopSkipJump",
        grey={"eps": 1.5, "norm": "l2"},
        colour={"eps": 0.5, "norm": "l2"},
        transfer=_STRETCHED, passes=5000, norms=_BOTH, threat="l2", minimal=True, narrow_title="HopSkip-\nJump",
    ),
    "simba": AttackEntry(simba, "SimBA", {"eps": 1.5}, {"eps": 0.5}, _ALL_QUERIES, passes=5000, threat="l2"),
    "ddn": AttackEntry(ddn, "DDN", {"eps": 1.5}, {"eps": 0.5}, _STRETCHED, passes=302, threat="l2", minimal=True),
    "fmn": AttackEntry(fmn, "FMN", _EPS_GREY, _EPS_COLOUR, _STRETCHED, passes=302, norms=_ALL, minimal=True),
    "deepfool": AttackEntry(
        deepfool, "DeepFool", _EPS_GREY, _EPS_COLOUR, _STRETCHED, passes=1002, norms=_BOTH, minimal=True
    ),
}  # fmt: skip
"""Name → entry, in the order of columns: the paper's five in the order of its tables (`aa` is the standard AutoAttack),
then AutoAttack as TorchAttacks has it, A3, AutoAttack's parts, the attacks of section 2.1, and further attacks
that search for the smallest perturbation."""

TABLE_1_ATTACKS = tuple(name for name, entry in ALL_ATTACKS.items() if entry.table_1)
"""The paper's five, in the order of its tables."""

DEFAULT_ATTACKS = tuple("a3" if name == "aa" else name for name in TABLE_1_ATTACKS)
"""What an evaluation runs unless attacks are named: Table 1's, with A3 in the place of AutoAttack at the same ε.

A3 leaves what AutoAttack leaves, at most 0.3 points more, at a small part of its cost (docs/attacks.md)."""


def entry_of(name: str) -> AttackEntry:
    """The entry of a registered attack, or of a user's own one, named as package.module:function.

    Raises `UserError` for an unknown name, and for a function that cannot be imported or called as an attack.
    """
    if name in ALL_ATTACKS:
        return ALL_ATTACKS[name]
    if ":" not in name:
        known = ", ".join(ALL_ATTACKS)
        raise UserError(f"unknown attack {name!r}: expected one of {known}, or package.module:function")
    return AttackEntry(own_attack(name), name, grey=_EPS_GREY, colour=_EPS_COLOUR, transfer={}, norms=get_args(Norm))


def names_for_help() -> str:
    """The names of all attacks, for help texts."""
    others = [name for name in ALL_ATTACKS if name not in {*TABLE_1_ATTACKS, *DEFAULT_ATTACKS}]
    return (
        f"The default: {', '.join(DEFAULT_ATTACKS)}. The paper's Table 1: {', '.join(TABLE_1_ATTACKS)} (aa is the "
        f"standard AutoAttack). Others: {', '.join(others)}. Your own: package.module:function."
    )
