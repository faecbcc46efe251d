"""The contenders that train without adversarial examples, and the two references that train with them."""

from dataclasses import replace
from typing import Any

from grfd.config import PRESETS, Config
from grfd.experiments.robust.contenders import Contender, ContenderScale

FREE = "GRFD free"
"""The group with which the others are compared."""
CONTROL_GROUP = "control"
REFERENCE = "with adversarial examples"

_NO_TERMS: dict[str, Any] = {"reconstruction": 0.0, "divergence": 0.0, "rectification": 0.0, "robustness": 0.0}
"""Without any term of GRFD's: the same networks with the same penalty."""
_RESIDUAL: dict[str, Any] = {"autoencoder": "residual"}


def _free(changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    return Contender(FREE, "grfd-free", recipe, changes or {})


def _control(changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    return Contender(CONTROL_GROUP, "grfd-free", _NO_TERMS | recipe, changes or {})


def _baseline(defense: str, **recipe: Any) -> Contender:
    return Contender("baseline", defense, recipe)


def _reference(defense: str, **recipe: Any) -> Contender:
    return Contender(REFERENCE, defense, {"eps": 0.14, "step_size": 0.07, "steps": 3} | recipe)


_GRADIENT_NORM: dict[str, Any] = {"penalty": "gradient_norm", "start": "fresh", "last_step": 1.5, "first_step": 1.5}
"""The penalty of GRFD free on F alone."""

_QUICK = {
    "free": _free(epochs=1),
    "control": _control(epochs=1),
    "cure": _baseline("cure", epochs=1),
}


def _of_epochs(epochs: int) -> dict[str, Contender]:
    """All contenders. `epochs`: those of `free`; baselines get at least as many gradients as it."""
    return {
        "free": _free(_RESIDUAL, epochs=epochs),
        "control": _control(_RESIDUAL, epochs=epochs),
        "free-lenet": _free(epochs=epochs),
        "control-lenet": _control(epochs=epochs),
        "free-random-directions": _free(_RESIDUAL, epochs=epochs, direction="random"),
        "grfd": Contender("GRFD as published", "grfd"),
        "bit-depth": _baseline("bit-depth"),
        "randomized-smoothing": _baseline("randomized-smoothing", epochs=9 * epochs),
        "gradient-regularisation": _baseline("gradient-regularisation", epochs=3 * epochs),
        "cure": _baseline("cure", epochs=2 * epochs),
        "cure-from-start": _baseline("cure", epochs=2 * epochs, start="fresh", weight=1.0, learning_rate=1e-3,
                                     first_step=1.5, last_step=1.5),
        "gradient-norm": _baseline("cure", epochs=2 * epochs, weight=0.1, learning_rate=1e-3, **_GRADIENT_NORM),
        "pgd-at": _reference("pgd-at", epochs=2 * epochs),
        "trades": _reference("trades", epochs=2 * epochs, beta=3.0),
        # the controls above have the epochs of GRFD free, which are fewer gradients, because L_rb takes four
        "control-more-gradients": _control(_RESIDUAL, epochs=2 * epochs),
        "control-lenet-more-gradients": _control(epochs=2 * epochs),
        # GRFD free with as many epochs as these: each has more gradients than its control, by L_rb alone
        "free-more-epochs": _free(_RESIDUAL, epochs=2 * epochs),
        "free-lenet-more-epochs": _free(epochs=2 * epochs),
    }  # fmt: skip


def _for_colour(contenders: dict[str, Contender]) -> dict[str, Contender]:
    """The same for small CIFAR-10: G is residual there anyway, and attacks in training have ε = 8/255."""
    attack = {"eps": 8 / 255, "step_size": 4 / 255}
    chosen = {}
    for name, each in contenders.items():
        if "-lenet" in name:
            continue
        chosen[name] = replace(each, recipe=each.recipe | attack, changes={}) if each.group == REFERENCE else (
            replace(each, changes={})
        )  # fmt: skip
    return chosen


_ATTACKS = ("fgsm", "a3")
"""The largest ε of Table 1, and A3. Under `adaptive`, PGD would take three times as long as both."""
_QUICK_CONFIG = Config(epochs=1, classifier_epochs=1, train_examples=12_000)
_SHORT_CONFIG = Config(epochs=3, classifier_epochs=3)
_SMALL_CONFIG = replace(PRESETS["cifar10-small"], train_examples=20_000)

FREE_SCALES: dict[str, ContenderScale] = {
    "quick": ContenderScale(_QUICK_CONFIG, _QUICK, 50, ("fgsm",), finalists=()),
    "short": ContenderScale(_SHORT_CONFIG, _of_epochs(3), 1000, _ATTACKS, ("free",), of_finalists=_ATTACKS),
    "cifar10-small": ContenderScale(
        _SMALL_CONFIG, _for_colour(_of_epochs(6)), 200, _ATTACKS, ("free",), of_finalists=_ATTACKS
    ),
}
