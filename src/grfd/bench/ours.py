"""Our attacks, with the budgets that the attacks of other libraries get."""

from collections.abc import Callable
from typing import Any

from torch import nn

from grfd.attacks import ALL_ATTACKS
from grfd.bench.libraries import TARGETS, Budget
from grfd.seeds import generator
from grfd.types import Images, Labels

OUR_KEYWORDS: dict[str, Callable[[Budget], dict[str, Any]]] = {
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
    "a3": lambda b: {},
    "quick": lambda b: {"version": "quick"},
}
"""Attack → its keywords under a budget."""


def run_ours(attack: str, model: nn.Module, images: Images, labels: Labels, budget: Budget) -> Images:
    """Runs our attack (with " l2" or " l1" appended to its name where it is not in L∞) with a budget."""
    name = attack.removesuffix(" l2").removesuffix(" l1")
    entry = ALL_ATTACKS[name]
    norm: dict[str, Any] = {"norm": budget.norm} if "l2" in entry.norms else {}
    norm |= {"targets": TARGETS["l1"]} if attack in ("apgd_t l1", "fab_t l1") else {}
    keywords = OUR_KEYWORDS[name](budget) | norm
    stream = generator(budget.seed, "bench", attack)
    return entry.function(model, images, labels, eps=budget.eps, **keywords, generator=stream)
