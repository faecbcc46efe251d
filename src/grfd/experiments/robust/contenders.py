"""The contenders that are compared with GRFD robust, and their recipes. All spend the same gradients in training.

A budget counts the gradients of the whole network for each image over all epochs. It includes stage I if a contender
starts from it. Each contender trains for as many epochs as the budget allows, except a rival that gets more on purpose,
as its name says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES
from grfd.experiments.robust.numbers import OURS, PUBLISHED, RESIDUAL_F


@dataclass(frozen=True)
class Contender:
    """A defense with a recipe. `group` is its mark in the figure of clean accuracy against the worst case."""

    group: str
    defense: str
    recipe: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    """Changes of the configuration: other networks, which have a stage I of their own."""


@dataclass(frozen=True)
class ContenderScale:
    """The common configuration, the contenders, and the number of attacked images."""

    config: Config
    contenders: dict[str, Contender]
    examples: int
    attacks: tuple[str, ...]
    """The attacks on every contender."""
    finalists: tuple[str, ...] = ()
    """The contenders on which all of `of_finalists` are also run. For all contenders it would take hours."""
    validation: bool = False
    """Whether training images behind `train_examples` are attacked, so that the test images choose nothing."""
    of_finalists: tuple[str, ...] = (*TABLE_1_ATTACKS, "apgd_dlr", "mifgsm")


_GRADIENTS_OF_STAGE_ONE = 5
"""A gradient at x_r and one at x_r + v, the backward passes through both of them, and that of the network itself."""


def starts_from_stage_one(contender: Contender) -> bool:
    recipe = DEFENSES[contender.defense].Recipe(**contender.recipe)
    return contender.defense == "grfd" or getattr(recipe, "start", None) == "stage_one"


def _of_free(recipe: Any) -> int:
    """The direction, the gradient at x and near it, and the backward passes through both; then those of L_rb for F."""
    penalty = {"none": 1, "gradient_norm": 4, "curvature": 4}[recipe.penalty] if recipe.penalty_weight != 0 else 1
    direction = 1 if penalty > 1 and recipe.direction == "gradient" else 0
    return penalty + direction + (4 if recipe.robustness else 0)


_WITHOUT_ATTACK: dict[str, Callable[[Any], int]] = {
    "grfd": lambda recipe: 1,
    "standard": lambda recipe: 1,
    "bit-depth": lambda recipe: 1,
    "randomized-smoothing": lambda recipe: 1,
    "gradient-regularisation": lambda recipe: 4,
    "cure": lambda recipe: 5,
    "grfd-free": _of_free,
}
"""Defenses that train without attacks → the gradients for each image in an epoch."""


def _gradients_an_epoch(contender: Contender) -> int:
    """The gradients for each image in an epoch after stage I: those of the attack and of the training step."""
    recipe = DEFENSES[contender.defense].Recipe(**contender.recipe)
    if contender.defense in _WITHOUT_ATTACK:
        return _WITHOUT_ATTACK[contender.defense](recipe)
    both = contender.defense == "trades" or any(
        getattr(recipe, name, 0) for name in ("natural", "consistency", "invariance")
    )
    return recipe.steps + 1 + both + (4 if getattr(recipe, "robustness", 0) else 0)


def gradients(contender: Contender, config: Config) -> int:
    """The gradients of the whole network that training takes for each image, over all epochs."""
    first = _GRADIENTS_OF_STAGE_ONE * config.epochs if starts_from_stage_one(contender) else 0
    epochs = contender.recipe.get("epochs", config.classifier_epochs)
    return first + epochs * _gradients_an_epoch(contender)


def _spending(budget: int, config: Config, contenders: dict[str, Contender]) -> dict[str, Contender]:
    """Each contender with as many epochs as the budget allows after its stage I, or with those of its own recipe.

    GRFD as published has the epochs of the configuration.
    """
    with_epochs = {}
    for name, each in contenders.items():
        first = _GRADIENTS_OF_STAGE_ONE * config.epochs if starts_from_stage_one(each) else 0
        epochs = {} if each.defense == "grfd" else {"epochs": (budget - first) // _gradients_an_epoch(each)}
        with_epochs[name] = replace(each, recipe=epochs | each.recipe)
    return with_epochs


def _attacked(eps: float, steps: int = 3) -> dict[str, Any]:
    """The attack in training, and the average of the weights that is deployed."""
    return {"eps": eps, "step_size": eps / 2, "steps": steps, "averaging": 0.995}


def _pgd_at(eps: float, **recipe: Any) -> Contender:
    return Contender("PGD-AT", "pgd-at", _attacked(eps) | recipe)


def _residual_pgd_at(eps: float) -> Contender:
    """A residual F without any G: the comparison for a G in front of LeNet5."""
    return Contender(RESIDUAL_F, "pgd-at", _attacked(eps), _WIDE)


def _trades(eps: float, beta: float, **recipe: Any) -> Contender:
    return Contender("TRADES", "trades", _attacked(eps) | {"beta": beta} | recipe)


def _ours(eps: float, changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    return Contender(OURS, "grfd-robust", _attacked(eps) | recipe, changes or {})


def _control(eps: float, changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    """The same G and F from fresh weights, trained on attacked examples alone."""
    return Contender("control", "grfd-robust", _attacked(eps) | _NO_TERMS | recipe, changes or {})


_RESIDUAL: dict[str, Any] = {"autoencoder": "residual"}
"""G is the network of CD-VAE, with batch norm, instead of LeNet5's mirror image."""
_WIDE: dict[str, Any] = {"model": "wrn-10-1-dropout-0"}
"""F is the smallest wide residual network instead of LeNet5."""
_NO_TERMS: dict[str, Any] = {"reconstruction": 0.0, "divergence": 0.0, "rectification": 0.0}
"""Without any term of GRFD's."""
_AS_TRADES: dict[str, Any] = {"adversarial": 0.0, "natural": 1.0}
"""Together with `consistency` as β: the objective of TRADES."""
_AS_PUBLISHED = Contender(PUBLISHED, "grfd")


_QUICK = {
    "pgd-at": _pgd_at(0.11, averaging=0.9),
    "control": _control(0.11, averaging=0.9),
    "grfd-robust": _ours(0.11, averaging=0.9, start="stage_one"),
    "grfd": _AS_PUBLISHED,
}

_SEARCHED = {
    "pgd-at-0.11": _pgd_at(0.11),
    "pgd-at-0.14": _pgd_at(0.14),
    "pgd-at-0.17": _pgd_at(0.17),
    "pgd-at-0.20": _pgd_at(0.20),
    "pgd-at-0.14-last-weights": _pgd_at(0.14, averaging=0.0),
    "trades-0.11-beta-6": _trades(0.11, 6.0),
    "trades-0.14-beta-3": _trades(0.14, 3.0),
    "trades-0.14-beta-6": _trades(0.14, 6.0),
    "trades-0.17-beta-6": _trades(0.17, 6.0),
    "control-0.14": _control(0.14),
    "control-0.17": _control(0.17),
    "ours-0.11": _ours(0.11, start="stage_one"),
    "ours-0.14": _ours(0.14, start="stage_one"),
    "ours-0.17": _ours(0.17, start="stage_one"),
    "ours-0.20": _ours(0.20, start="stage_one"),
    "ours-0.14-fresh": _ours(0.14),
    # the budget that stage I takes is missing later, so the following trials start from fresh weights
    "ours-0.17-fresh": _ours(0.17),
    "ours-0.14-fresh-no-rectification": _ours(0.14, rectification=0.0),
    "ours-0.14-fresh-no-reconstruction": _ours(0.14, reconstruction=0.0),
    "ours-0.14-fresh-no-divergence": _ours(0.14, divergence=0.0),
    "ours-0.14-fresh-consistency-6": _ours(0.14, consistency=6.0, **_AS_TRADES),
    "ours-0.14-fresh-invariance-1": _ours(0.14, invariance=1.0),
    "ours-0.14-fresh-robustness-0.1": _ours(0.14, robustness=0.1),
    "ours-0.14-fresh-sampled-in-training": _ours(0.14, latent="sampled_in_training"),
    "ours-0.14-fresh-residual": _ours(0.14, _RESIDUAL),
    # a larger G is more robust; its own control tells whether that is due to GRFD's terms or to its capacity
    "control-0.14-residual": _control(0.14, _RESIDUAL),
    "ours-0.17-residual": _ours(0.17, _RESIDUAL),
    # the contribution of each term beyond that control
    "ours-0.14-residual-no-rectification": _ours(0.14, _RESIDUAL, rectification=0.0),
    "ours-0.14-residual-no-reconstruction": _ours(0.14, _RESIDUAL, reconstruction=0.0),
    "ours-0.14-residual-no-divergence": _ours(0.14, _RESIDUAL, divergence=0.0),
    # a gradient of such a G and F takes as long as four of LeNet5's: equal time instead of equal gradients
    "pgd-at-0.14-four-times": _pgd_at(0.14, epochs=60),
    # is a G needed at all, or is another F alone as good?
    "pgd-at-0.14-wrn-10-1": _residual_pgd_at(0.14),
    # TRADES was more robust at β = 3 than at 6, so a smaller β is tried, too
    "trades-0.14-beta-1": _trades(0.14, 1.0),
    "trades-0.17-beta-1": _trades(0.17, 1.0),
}

_SHORT = {
    "pgd-at-0.11": _pgd_at(0.11),
    "pgd-at-0.17": _pgd_at(0.17),
    "pgd-at-0.14-four-times": _pgd_at(0.14, epochs=20),
    "trades-0.14-beta-3": _trades(0.14, 3.0),
    "control-0.14-residual": _control(0.14, _RESIDUAL),
    "ours-0.14-residual": _ours(0.14, _RESIDUAL),
    "grfd": _AS_PUBLISHED,
    "pgd-at-0.14-wrn-10-1": _residual_pgd_at(0.14),
    "ours-0.14-residual-no-rectification": _ours(0.14, _RESIDUAL, rectification=0.0),
    "ours-0.14-residual-no-reconstruction": _ours(0.14, _RESIDUAL, reconstruction=0.0),
    "ours-0.14-residual-no-divergence": _ours(0.14, _RESIDUAL, divergence=0.0),
}
"""Chosen by the search: the best of PGD-AT (two were equal) and of TRADES, and ours with the larger G.

Then comes PGD-AT of a residual F, which was the most robust of all, although it was added last and is no finalist; then
ours without each of its terms.
"""

_FEW_EPOCHS: dict[str, Any] = {"learning_rate": PRESETS["cifar10-small"].classifier_learning_rate}
_SMALL = {
    "pgd-at-8": _pgd_at(8 / 255, **_FEW_EPOCHS),
    "trades-8-beta-6": _trades(8 / 255, 6.0, **_FEW_EPOCHS),
    "control-8": _control(8 / 255, **_FEW_EPOCHS),
    "ours-8": _ours(8 / 255, **_FEW_EPOCHS),
    "grfd": _AS_PUBLISHED,
    "ours-8-no-rectification": _ours(8 / 255, rectification=0.0, **_FEW_EPOCHS),
    "ours-8-no-reconstruction": _ours(8 / 255, reconstruction=0.0, **_FEW_EPOCHS),
    "ours-8-no-divergence": _ours(8 / 255, divergence=0.0, **_FEW_EPOCHS),
}
"""For CIFAR-10, with ε in 255ths and the β of TRADES. G is the network of CD-VAE in any case."""

_QUICK_CONFIG = Config(epochs=1, classifier_epochs=1, train_examples=12_000)
_SEARCH_CONFIG = Config(epochs=4, classifier_epochs=6, train_examples=20_000, batch=128)
"""A third of the images, so that a trial takes minutes."""

_SMALL_CONFIG = replace(PRESETS["cifar10-small"], train_examples=20_000)
_SHORT_CONFIG = Config(epochs=2, classifier_epochs=6, batch=128)

CONTENDER_SCALES: dict[str, ContenderScale] = {
    "quick": ContenderScale(
        _QUICK_CONFIG,
        _spending(9, _QUICK_CONFIG, _QUICK),
        50,
        ("fgsm", "pgd"),
        finalists=("pgd-at", "grfd"),
    ),
    # for a model that is not random EOTPGD is PGD, and without the expensive extras that `adaptive` adds to PGD
    "search": ContenderScale(
        _SEARCH_CONFIG,
        _spending(60, _SEARCH_CONFIG, _SEARCHED),
        1000,
        ("fgsm", "eotpgd"),
        validation=True,
    ),
    "short": ContenderScale(
        _SHORT_CONFIG,
        # a multiple of the 4 gradients of PGD-AT and of the 5 of TRADES
        _spending(20, _SHORT_CONFIG, _SHORT),
        1000,
        ("fgsm", "eotpgd"),
        finalists=("pgd-at-0.11", "trades-0.14-beta-3", "control-0.14-residual", "ours-0.14-residual", "grfd"),
    ),
    "cifar10-small": ContenderScale(
        _SMALL_CONFIG,
        _spending(20, _SMALL_CONFIG, _SMALL),
        300,
        ("fgsm", "eotpgd"),
        finalists=("pgd-at-8", "trades-8-beta-6", "control-8", "ours-8", "grfd"),
    ),
}
