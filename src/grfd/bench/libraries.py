"""The attacks of other libraries under one signature, for comparison with ours. grfd itself needs none of them.

Versions: `pip install --no-deps torchattacks==3.5.1 pyautoattack==0.2.0 adversarial-robustness-toolbox==1.20.1
foolbox==3.3.4`, with what they import (`make oracles` does it).
"""

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from grfd.types import Images, Labels

THIS_LIBRARY = "grfd"
"""The name of our own attacks in comparisons."""


@dataclass(frozen=True)
class Budget:
    """What both sides may use. `eps` is in pixels of [0, 1], measured in `norm`: "linf", "l2" or "l1"."""

    eps: float
    step_size: float = 0.0
    steps: int = 100
    norm: str = "linf"
    queries: int = 1000
    classes: int = 10
    seed: int = 0


ForeignAttack = Callable[[nn.Module, Images, Labels, Budget], Images]
"""(model, images, labels, budget) → adversarial images."""

_Keywords = Callable[[Budget], dict[str, Any]]


def _norm(budget: Budget) -> str:
    return {"linf": "Linf", "l2": "L2", "l1": "L1"}[budget.norm]


def _steps(budget: Budget) -> dict[str, Any]:
    return {"eps": budget.eps, "alpha": budget.step_size, "steps": budget.steps}


def _auto(budget: Budget) -> dict[str, Any]:
    return {"norm": _norm(budget), "eps": budget.eps, "steps": budget.steps, "seed": budget.seed}


_TORCHATTACKS_CLASSES: dict[str, tuple[str, _Keywords]] = {
    "fgsm": ("FGSM", lambda b: {"eps": b.eps}),
    "pgd": ("PGD", _steps),
    "pgd l2": ("PGDL2", _steps),
    "bim": ("BIM", _steps),
    "rfgsm": ("RFGSM", lambda b: _steps(b) | {"alpha": b.eps / 2}),
    "eotpgd": ("EOTPGD", _steps),
    "mifgsm": ("MIFGSM", _steps),
    "vmifgsm": ("VMIFGSM", _steps),
    "apgd_ce": ("APGD", _auto),
    "apgd_dlr": ("APGD", lambda b: _auto(b) | {"loss": "dlr"}),
    "apgd_t": ("APGDT", lambda b: _auto(b) | {"n_classes": b.classes}),
    "fab": ("FAB", lambda b: _auto(b) | {"n_classes": b.classes}),
    "fab_t": ("FAB", lambda b: _auto(b) | {"n_classes": b.classes, "multi_targeted": True}),
    "square": ("Square", lambda b: {"norm": _norm(b), "eps": b.eps, "n_queries": b.queries, "seed": b.seed}),
    "cw l2": ("CW", lambda b: {"c": 1, "steps": b.steps, "lr": 0.01}),
    "pixle": ("Pixle", lambda b: {}),
    "aa_torchattacks": (
        "AutoAttack",
        lambda b: {"norm": _norm(b), "eps": b.eps, "n_classes": b.classes, "seed": b.seed},
    ),
}
"""Our name of an attack → the class in TorchAttacks, and its keywords under a budget."""


def _torchattacks(name: str, model: nn.Module, images: Images, labels: Labels, budget: Budget) -> Images:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks
    kind, keywords = _TORCHATTACKS_CLASSES[name]
    return getattr(torchattacks, kind)(model, **keywords(budget))(images, labels)


TARGETS = {"linf": 9, "l2": 9, "l1": 5}
"""Norm → the number of target classes in AutoAttack's targeted attacks (arXiv 2003.01690; for L1 arXiv 2103.01208)."""

_PYAUTOATTACK_NAMES = {
    "apgd_ce": "apgd-ce",
    "apgd_dlr": "apgd-dlr",
    "apgd_t": "apgd-t",
    "fab": "fab",
    "fab_t": "fab-t",
    "square": "square",
    "aa": "standard",
}


def _pyautoattack(name: str, model: nn.Module, images: Images, labels: Labels, budget: Budget) -> Images:
    import pyautoattack

    whole = _PYAUTOATTACK_NAMES[name] == "standard"
    chosen = {"version": "standard"} if whole else {"version": "custom", "attacks": [_PYAUTOATTACK_NAMES[name]]}
    attack = pyautoattack.AutoAttack(model, eps=budget.eps, norm=_norm(budget), seed=budget.seed, **chosen)
    for part in (attack.apgd, attack.fab, attack.apgd_targeted):
        part.n_restarts = 1
        part.n_iter = budget.steps
    for part in (attack.fab, attack.apgd_targeted):
        part.n_target_classes = min(TARGETS[budget.norm], budget.classes - 1)
    for part in (attack.apgd, attack.apgd_targeted):
        part.use_largereps = budget.norm == "l1"
    attack.square.n_queries = budget.queries
    return attack.run_standard_evaluation(images, labels, batch_size=len(images))[0]


def _art_classifier(model: nn.Module, images: Images, budget: Budget) -> Any:
    from art.estimators.classification import PyTorchClassifier

    shape = tuple(images.shape[1:])
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), shape, budget.classes, clip_values=(0.0, 1.0),
                             device_type="cpu")  # fmt: skip


def _art(name: str, model: nn.Module, images: Images, labels: Labels, budget: Budget) -> Images:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks import evasion

        classifier = _art_classifier(model, images, budget)
        norm: Any = torch.inf if budget.norm == "linf" else 2
        common = {"norm": norm, "eps": budget.eps, "batch_size": len(images)}
        attack: Any
        if name == "fgsm":
            attack = evasion.FastGradientMethod(classifier, **common)
        elif name == "pgd":
            more = {"eps_step": budget.step_size, "max_iter": budget.steps, "num_random_init": 1, "verbose": False}
            attack = evasion.ProjectedGradientDescentPyTorch(classifier, **common, **more)
        elif name == "square":
            attack = evasion.SquareAttack(classifier, **common, max_iter=budget.queries, verbose=False)
        else:
            # The defaults (10 constants, up to 10 step sizes per iteration) take half an hour for 500 images.
            searched = {"binary_search_steps": 4, "max_halving": 1, "max_doubling": 1}
            attack = evasion.CarliniL2Method(
                classifier, max_iter=budget.steps, batch_size=len(images), verbose=False, **searched
            )
        return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


def _foolbox(name: str, model: nn.Module, images: Images, labels: Labels, budget: Budget) -> Images:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox

        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        stepped: dict[str, Any] = {"abs_stepsize": budget.step_size, "steps": budget.steps}
        attacks: dict[str, Callable[[], Any]] = {
            "fgsm": foolbox.attacks.FGSM,
            "pgd": lambda: foolbox.attacks.LinfPGD(**stepped),
            "pgd l2": lambda: foolbox.attacks.L2PGD(**stepped),
            "cw l2": lambda: foolbox.attacks.L2CarliniWagnerAttack(steps=budget.steps),
        }
        _, clipped, _ = attacks[name]()(wrapped, images, labels, epsilons=budget.eps)
    return clipped


def _all(run: Callable[..., Images], names: list[str]) -> dict[str, ForeignAttack]:
    return {name: partial(run, name) for name in names}


_ALL_NORMS = ("apgd_ce", "apgd_dlr", "apgd_t", "fab_t", "square", "aa")


def _also_in(norm: str, attacks: dict[str, ForeignAttack]) -> dict[str, ForeignAttack]:
    """The same attacks, also under the names of their versions in that norm. The budget determines the norm."""
    return attacks | {f"{name} {norm}": attacks[name] for name in _ALL_NORMS if name in attacks}


LIBRARIES: dict[str, dict[str, ForeignAttack]] = {
    "torchattacks": _also_in("l2", _all(_torchattacks, list(_TORCHATTACKS_CLASSES))),
    "pyautoattack": _also_in("l1", _also_in("l2", _all(_pyautoattack, list(_PYAUTOATTACK_NAMES)))),
    "art": _all(_art, ["fgsm", "pgd", "square", "cw l2"]),
    "foolbox": _all(_foolbox, ["fgsm", "pgd", "pgd l2", "cw l2"]),
}
"""Library → our name of an attack (with " l2" or " l1" appended where it is not in L∞) → the library's attack.

ART's "AutoAttack" is left out, because it is a different attack under the same name.
"""


LIBRARY_PACKAGES = {
    "torchattacks": "torchattacks",
    "pyautoattack": "pyautoattack",
    "art": "adversarial-robustness-toolbox",
    "foolbox": "foolbox",
}
"""Library → the package that contains it."""


def installed() -> list[str]:
    """The libraries that are installed."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name)]


def run_foreign(library: str, attack: str, model: nn.Module, images: Images, labels: Labels, budget: Budget) -> Images:
    """Runs a library's attack without its output, and restores the model's mode and parameters, which some change."""
    mode = model.training
    needed = [parameter.requires_grad for parameter in model.parameters()]
    with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()), torch.enable_grad():
        torch.manual_seed(budget.seed)
        adversarial = LIBRARIES[library][attack](model, images, labels, budget)
    model.train(mode)
    for parameter, wanted in zip(model.parameters(), needed, strict=True):
        parameter.requires_grad_(wanted)
        parameter.grad = None
    return adversarial.detach()
