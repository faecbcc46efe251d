"""Budgets: the paper's, ours for other attacks, and the settings under which ours are TorchAttacks' own."""

from typing import Any

TABLE_1: dict[str, dict[str, dict[str, Any]]] = {
    "mnist": {
        "fgsm": {"eps": 26 / 255},
        "pgd": {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
        "aa": {"eps": 20 / 255, "version": "standard"},
        "eotpgd": {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
        "vmifgsm": {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100},
    },
    "cifar": {
        "fgsm": {"eps": 8 / 255},
        "pgd": {"eps": 1 / 255, "step_size": 1 / 255, "steps": 200},
        "aa": {"eps": 4 / 255, "version": "standard"},
        "eotpgd": {"eps": 4 / 255, "step_size": 2 / 255, "steps": 10},
        "vmifgsm": {"eps": 4 / 255, "step_size": 2 / 255, "steps": 10},
    },
}
"""The paper's budgets (Table 1), in pixels of [0, 1]. CIFAR-10 and CIFAR-100 share theirs."""

OTHER_BUDGETS: dict[str, dict[str, dict[str, Any]]] = {
    "mnist": {
        "aa_torchattacks": {"eps": 20 / 255},
        **{name: {"eps": 18 / 255} for name in ("apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square", "advgan")},
        **{name: {"eps": 18 / 255, "step_size": 8 / 255, "steps": 100} for name in ("bim", "mifgsm", "hmcam")},
        "rfgsm": {"eps": 26 / 255},
        "cw": {"eps": 1.5},
        "pixle": {},
    },
    "cifar": {
        "aa_torchattacks": {"eps": 4 / 255},
        **{name: {"eps": 4 / 255} for name in ("apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square", "advgan")},
        **{name: {"eps": 4 / 255, "step_size": 2 / 255, "steps": 10} for name in ("bim", "mifgsm", "hmcam")},
        "rfgsm": {"eps": 8 / 255},
        "cw": {"eps": 0.5},
        "pixle": {},
    },
}
"""Ours, for attacks that Table 1 does not name: the ε of its likest attack; C&W's is a Euclidean length."""

_ALL_STEPS: dict[str, Any] = {"active_set": False, "keep": "best"}

TRANSFER: dict[str, dict[str, Any]] = {
    "fgsm": {"active_set": False},
    **dict.fromkeys(("pgd", "eotpgd", "vmifgsm", "bim", "rfgsm", "mifgsm"), _ALL_STEPS),
    **dict.fromkeys(("apgd_ce", "apgd_dlr", "apgd_t"), _ALL_STEPS),
    **{name: {"active_set": False} for name in ("square", "pixle", "hmcam", "advgan")},
    **{name: {"active_set": False, "stretch": True} for name in ("fab", "fab_t", "cw")},
    "aa": {"active_set": False, "version": "ascent"},
    "aa_torchattacks": {"as_returned": True},
}
"""Settings under which an attack makes examples that are meant for *another* model than the one it sees.

An example that leaves at its first success lies just behind the source's own decision boundary, and transfers badly:
every attack runs all its steps. FAB and C&W look for the smallest perturbation, so theirs is stretched to ε; AutoAttack
is its parts that raise a loss. `aa_torchattacks` is what TorchAttacks returns, the clean image where it failed."""

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
TorchAttacks' own, of ten steps, is `aa_torchattacks`."""
