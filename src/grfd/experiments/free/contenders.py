"""The contenders that train without adversarial examples, and the two references that train with them."""

from dataclasses import replace
from typing import Any

from grfd.config import PRESETS, Config
from grfd.experiments.robust.contenders import Contender, ContenderScale

FREE = "GRFD free"
"""The group with which the others are compared."""
VARIED = "GRFD free, one setting changed"
CONTROL_GROUP = "control"
REFERENCE = "with adversarial examples"

_NO_TERMS: dict[str, Any] = {"reconstruction": 0.0, "divergence": 0.0, "rectification": 0.0, "robustness": 0.0}
"""Without any term of GRFD's: the same networks with the same penalty."""
_RESIDUAL: dict[str, Any] = {"autoencoder": "residual"}


def _free(changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    return Contender(FREE, "grfd-free", recipe, changes or {})


def _varied(changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    return Contender(VARIED, "grfd-free", recipe, changes or {})


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


_AS_CURE: dict[str, Any] = {"start": "fresh", "learning_rate": 1e-3, "first_step": 1.5, "last_step": 1.5}
"""CURE from fresh weights, with the step of GRFD free."""
_SEARCHED = {
    "free": _free(),
    "control": _control(),
    # what F receives, and the networks
    "free-residual-part": _varied(robust_part="residual"),
    "free-gated": _varied(robust_part="gated"),
    "free-latent-64": _varied({"latent": 64}),
    "free-latent-1024": _varied({"latent": 1024}),
    "free-residual-network": _varied(_RESIDUAL),
    # GRFD's terms
    "free-no-robustness": _varied(robustness=0.0),
    "free-robustness-at-image": _varied(robustness_of="image"),
    "free-rectification-3": _varied(rectification=3.0),
    # the penalty
    "free-curvature": _varied(penalty="curvature", penalty_weight=1.0),
    "free-no-direction": _varied(direction="none"),
    "free-random-directions": _varied(direction="random"),
    "free-step-0.75": _varied(step=0.75),
    "free-step-3": _varied(step=3.0),
    "free-penalty-0.03": _varied(penalty_weight=0.03),
    "free-penalty-0.3": _varied(penalty_weight=0.3),
    # randomness, and the average of the weights
    "free-noise-0.15": _varied(noise=0.15),
    "free-sampled-in-training": _varied(latent="sampled_in_training"),
    "free-sampled": _varied(latent="sampled"),
    "free-averaging": _varied(averaging=0.995),
    # baselines at several strengths
    **{f"gradient-norm-{weight}": _baseline("cure", weight=weight, learning_rate=1e-3, **_GRADIENT_NORM)
       for weight in (0.03, 0.1, 0.3)},
    **{f"cure-from-start-{weight}": _baseline("cure", weight=weight, **_AS_CURE) for weight in (0.3, 1.0, 3.0)},
    **{f"gradient-regularisation-{saliency}": _baseline("gradient-regularisation", saliency=saliency,
                                                        jacobian=saliency / 10)
       for saliency in (0.03, 0.1, 0.3, 1.0)},
}  # fmt: skip
"""One setting changed at a time, from GRFD free with the small G; and the baselines at several strengths."""


def _for_search(epochs: int) -> dict[str, Contender]:
    """All of them with about as many gradients as GRFD free has in `epochs` epochs."""
    defaults = {"grfd-free": epochs, "cure": 2 * epochs, "gradient-regularisation": 2 * epochs}
    return {
        name: replace(each, recipe={"epochs": defaults[each.defense]} | each.recipe)
        for name, each in _SEARCHED.items()
    }  # fmt: skip


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
_SEARCH_CONFIG = Config(epochs=3, classifier_epochs=3, train_examples=20_000, batch=128)
"""A third of the images, so that a trial takes minutes."""
_SMALL_CONFIG = replace(PRESETS["cifar10-small"], train_examples=20_000)

FREE_SCALES: dict[str, ContenderScale] = {
    "quick": ContenderScale(_QUICK_CONFIG, _QUICK, 50, ("fgsm",), finalists=()),
    "short": ContenderScale(_SHORT_CONFIG, _of_epochs(3), 1000, _ATTACKS, ("free",), of_finalists=_ATTACKS),
    "search": ContenderScale(
        _SEARCH_CONFIG,
        _for_search(3),
        500,
        ("fgsm",),
        # z that is drawn for each answer costs sixteen passes instead of one, so FGSM alone has to do there
        finalists=tuple(name for name in _SEARCHED if name != "free-sampled"),
        validation=True,
        of_finalists=_ATTACKS,
    ),
    "cifar10-small": ContenderScale(
        _SMALL_CONFIG, _for_colour(_of_epochs(6)), 200, _ATTACKS, ("free",), of_finalists=_ATTACKS
    ),
}
