"""Who is compared with GRFD robust, under which recipes: all that spend the same gradients in training.

A budget counts gradients of the whole network an image, all epochs together, stage I included where a contender starts
from it; each has as many epochs as that buys, but for a rival that is given more on purpose, as its name says.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES
from grfd.experiments.robust.numbers import OURS, PUBLISHED, RESIDUAL_F


@dataclass(frozen=True)
class Contender:
    """A defense under a recipe; `group` is its line in the curve of clean accuracy against the worst case."""

    group: str
    defense: str
    recipe: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the configuration: other networks, with a stage I of their own."""


@dataclass(frozen=True)
class Scale:
    """The settings of all, who takes part, and how many images are attacked."""

    config: Config
    contenders: dict[str, Contender]
    examples: int
    attacks: tuple[str, ...]
    """On every contender."""
    finalists: tuple[str, ...] = ()
    """Those on which all of `ATTACKS_OF_FINALISTS` are run too: the others would cost hours."""
    validation: bool = False
    """Whether the training images behind `train_examples` are attacked: the test images must choose nothing."""
    minutes: dict[str, float] = field(default_factory=dict)
    """On two cores, as measured: "standard", "stage I", "train" and "attack" (a contender), "final" (all finalists)."""


ATTACKS_OF_FINALISTS = (*TABLE_1_ATTACKS, "apgd_dlr", "mifgsm")

GRADIENTS_OF_STAGE_ONE = 5
"""A gradient at x_r and at x_r + v, and the passes back through both of them, and through the network itself."""


def starts_from_stage_one(contender: Contender) -> bool:
    recipe = DEFENSES[contender.defense].Recipe(**contender.recipe)
    return contender.defense == "grfd" or getattr(recipe, "start", None) == "stage_one"


def gradients_an_epoch(contender: Contender) -> int:
    """Of the stage behind stage I, an image: the attack's, and those of the step itself."""
    if contender.defense == "grfd":
        return 1
    recipe = DEFENSES[contender.defense].Recipe(**contender.recipe)
    both = contender.defense == "trades" or any(
        getattr(recipe, name, 0) for name in ("natural", "consistency", "invariance")
    )
    return recipe.steps + 1 + both + (4 if getattr(recipe, "robustness", 0) else 0)


def gradients(contender: Contender, config: Config) -> int:
    """Gradients of the whole network that training takes for each image, all epochs together."""
    first = GRADIENTS_OF_STAGE_ONE * config.epochs if starts_from_stage_one(contender) else 0
    epochs = config.classifier_epochs if contender.defense == "grfd" else contender.recipe["epochs"]
    return first + epochs * gradients_an_epoch(contender)


def spending(budget: int, config: Config, contenders: dict[str, Contender]) -> dict[str, Contender]:
    """Each with as many epochs as the budget buys behind its stage I, or those of its own recipe.

    GRFD as published has the configuration's.
    """
    found = {}
    for name, each in contenders.items():
        first = GRADIENTS_OF_STAGE_ONE * config.epochs if starts_from_stage_one(each) else 0
        epochs = {} if each.defense == "grfd" else {"epochs": (budget - first) // gradients_an_epoch(each)}
        found[name] = replace(each, recipe=epochs | each.recipe)
    return found


def _attacked(eps: float, steps: int = 3) -> dict[str, Any]:
    """The attack in training, and the average of the weights that is deployed."""
    return {"eps": eps, "step_size": eps / 2, "steps": steps, "averaging": 0.995}


def pgd_at(eps: float, **recipe: Any) -> Contender:
    return Contender("PGD-AT", "pgd-at", _attacked(eps) | recipe)


def residual_pgd_at(eps: float) -> Contender:
    """Of a residual F, alone: what a G in front of LeNet5 is to be measured against."""
    return Contender(RESIDUAL_F, "pgd-at", _attacked(eps), WIDE)


def trades(eps: float, beta: float, **recipe: Any) -> Contender:
    return Contender("TRADES", "trades", _attacked(eps) | {"beta": beta} | recipe)


def ours(eps: float, changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    return Contender(OURS, "grfd-robust", _attacked(eps) | recipe, changes or {})


def control(eps: float, changes: dict[str, Any] | None = None, **recipe: Any) -> Contender:
    """G and F as they are, fresh, and nothing but what is learnt of the attacked examples."""
    return Contender("control", "grfd-robust", _attacked(eps) | NO_TERMS | recipe, changes or {})


RESIDUAL: dict[str, Any] = {"autoencoder": "residual"}
"""G is CD-VAE's network, with batch norm, in place of LeNet5's mirror."""
WIDE: dict[str, Any] = {"model": "wrn-10-1-dropout-0"}
"""F is the smallest wide residual network, in place of LeNet5."""
NO_TERMS: dict[str, Any] = {"reconstruction": 0.0, "divergence": 0.0, "rectification": 0.0}
"""No term of GRFD's."""
AS_TRADES: dict[str, Any] = {"adversarial": 0.0, "natural": 1.0}
"""With `consistency` as β: TRADES' objective."""
AS_PUBLISHED = Contender(PUBLISHED, "grfd")


_QUICK = {
    "pgd-at": pgd_at(0.11, averaging=0.9),
    "control": control(0.11, averaging=0.9),
    "grfd-robust": ours(0.11, averaging=0.9, start="stage_one"),
    "grfd": AS_PUBLISHED,
}

_SEARCHED = {
    "pgd-at-0.11": pgd_at(0.11),
    "pgd-at-0.14": pgd_at(0.14),
    "pgd-at-0.17": pgd_at(0.17),
    "pgd-at-0.20": pgd_at(0.20),
    "pgd-at-0.14-last-weights": pgd_at(0.14, averaging=0.0),
    "trades-0.11-beta-6": trades(0.11, 6.0),
    "trades-0.14-beta-3": trades(0.14, 3.0),
    "trades-0.14-beta-6": trades(0.14, 6.0),
    "trades-0.17-beta-6": trades(0.17, 6.0),
    "control-0.14": control(0.14),
    "control-0.17": control(0.17),
    "ours-0.11": ours(0.11, start="stage_one"),
    "ours-0.14": ours(0.14, start="stage_one"),
    "ours-0.17": ours(0.17, start="stage_one"),
    "ours-0.20": ours(0.20, start="stage_one"),
    "ours-0.14-fresh": ours(0.14),
    # behind the first trials: what stage I spends of the budget is missed, so that the rest start fresh
    "ours-0.17-fresh": ours(0.17),
    "ours-0.14-fresh-no-rectification": ours(0.14, rectification=0.0),
    "ours-0.14-fresh-no-reconstruction": ours(0.14, reconstruction=0.0),
    "ours-0.14-fresh-no-divergence": ours(0.14, divergence=0.0),
    "ours-0.14-fresh-consistency-6": ours(0.14, consistency=6.0, **AS_TRADES),
    "ours-0.14-fresh-invariance-1": ours(0.14, invariance=1.0),
    "ours-0.14-fresh-robustness-0.1": ours(0.14, robustness=0.1),
    "ours-0.14-fresh-sampled-in-training": ours(0.14, latent="sampled_in_training"),
    "ours-0.14-fresh-residual": ours(0.14, RESIDUAL),
    # a larger G keeps more: whether GRFD's terms or the capacity does it, its own control says
    "control-0.14-residual": control(0.14, RESIDUAL),
    "ours-0.17-residual": ours(0.17, RESIDUAL),
    # what each term brings on top of that control
    "ours-0.14-residual-no-rectification": ours(0.14, RESIDUAL, rectification=0.0),
    "ours-0.14-residual-no-reconstruction": ours(0.14, RESIDUAL, reconstruction=0.0),
    "ours-0.14-residual-no-divergence": ours(0.14, RESIDUAL, divergence=0.0),
    # a gradient of such a G and F costs what four of LeNet5's do: as much time instead of as many gradients
    "pgd-at-0.14-four-times": pgd_at(0.14, epochs=60),
    # and whether it takes a G at all, or another F alone does as well
    "pgd-at-0.14-wrn-10-1": residual_pgd_at(0.14),
    # TRADES kept more at β = 3 than at 6: less still is tried, so that it has its best
    "trades-0.14-beta-1": trades(0.14, 1.0),
    "trades-0.17-beta-1": trades(0.17, 1.0),
}

_SHORT = {
    "pgd-at-0.11": pgd_at(0.11),
    "pgd-at-0.17": pgd_at(0.17),
    "pgd-at-0.14-four-times": pgd_at(0.14, epochs=20),
    "trades-0.14-beta-3": trades(0.14, 3.0),
    "control-0.14-residual": control(0.14, RESIDUAL),
    "ours-0.14-residual": ours(0.14, RESIDUAL),
    "grfd": AS_PUBLISHED,
    "pgd-at-0.14-wrn-10-1": residual_pgd_at(0.14),
    "ours-0.14-residual-no-rectification": ours(0.14, RESIDUAL, rectification=0.0),
    "ours-0.14-residual-no-reconstruction": ours(0.14, RESIDUAL, reconstruction=0.0),
    "ours-0.14-residual-no-divergence": ours(0.14, RESIDUAL, divergence=0.0),
}
"""By the search: the best of PGD-AT (two held as much) and of TRADES; ours with the larger G, at its control's ε.

Then PGD-AT of a residual F, which held the most of all, though it came last and is no finalist; and each term left out.
"""

_FEW_EPOCHS: dict[str, Any] = {"learning_rate": PRESETS["cifar10-small"].classifier_learning_rate}
_SMALL = {
    "pgd-at-8": pgd_at(8 / 255, **_FEW_EPOCHS),
    "trades-8-beta-6": trades(8 / 255, 6.0, **_FEW_EPOCHS),
    "control-8": control(8 / 255, **_FEW_EPOCHS),
    "ours-8": ours(8 / 255, **_FEW_EPOCHS),
    "grfd": AS_PUBLISHED,
    "ours-8-no-rectification": ours(8 / 255, rectification=0.0, **_FEW_EPOCHS),
    "ours-8-no-reconstruction": ours(8 / 255, reconstruction=0.0, **_FEW_EPOCHS),
    "ours-8-no-divergence": ours(8 / 255, divergence=0.0, **_FEW_EPOCHS),
}
"""For CIFAR-10: ε in 255ths, TRADES' own β; G is CD-VAE's in any case. Then each term left out."""

_QUICK_CONFIG = Config(epochs=1, classifier_epochs=1, train_examples=12_000)
_SEARCH_CONFIG = Config(epochs=4, classifier_epochs=6, train_examples=20_000, batch=128)
"""A third of the images: a trial takes minutes."""

_SMALL_CONFIG = replace(PRESETS["cifar10-small"], train_examples=20_000)
_SHORT_CONFIG = Config(epochs=2, classifier_epochs=6, batch=128)

SCALES: dict[str, Scale] = {
    "quick": Scale(
        _QUICK_CONFIG,
        spending(9, _QUICK_CONFIG, _QUICK),
        50,
        ("fgsm", "pgd"),
        finalists=("pgd-at", "grfd"),
        minutes={"standard": 0.1, "stage I": 0.1, "train": 0.1, "attack": 0.2, "final": 0.4},
    ),
    # EOTPGD of a model that is not random is PGD, without what `adaptive` adds to PGD at four times its cost
    "search": Scale(
        _SEARCH_CONFIG,
        spending(60, _SEARCH_CONFIG, _SEARCHED),
        1000,
        ("fgsm", "eotpgd"),
        validation=True,
        minutes={"standard": 0.2, "stage I": 0.4, "train": 2.2, "attack": 0.3},
    ),
    "short": Scale(
        _SHORT_CONFIG,
        # whole epochs of PGD-AT's 4 gradients and of TRADES' 5
        spending(20, _SHORT_CONFIG, _SHORT),
        1000,
        ("fgsm", "eotpgd"),
        finalists=("pgd-at-0.11", "trades-0.14-beta-3", "control-0.14-residual", "ours-0.14-residual", "grfd"),
        minutes={"standard": 0.8, "stage I": 0.7, "train": 4.1, "attack": 0.3, "final": 62.0},
    ),
    "cifar10-small": Scale(
        _SMALL_CONFIG,
        spending(20, _SMALL_CONFIG, _SMALL),
        300,
        ("fgsm", "eotpgd"),
        finalists=("pgd-at-8", "trades-8-beta-6", "control-8", "ours-8", "grfd"),
        minutes={"standard": 2.0, "stage I": 6.2, "train": 4.6, "attack": 0.4, "final": 27.1},
    ),
}
