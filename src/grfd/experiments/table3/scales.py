"""How much of Table 3 is run at each scale: which defenses under which attacks on how many images, at what cost."""

from dataclasses import dataclass, field
from typing import Any

from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import PRESETS, Config

PROTOCOLS = ("transfer", "whitebox", "adaptive")


@dataclass(frozen=True)
class Part:
    """Some defenses under some attacks, on the first so many test images. `later`: on how many for the later seeds."""

    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    examples: int
    later: int | None = None
    protocols: tuple[str, ...] = PROTOCOLS


@dataclass(frozen=True)
class Scale:
    """How much of it is run, part by part. `certified`: images, where randomized smoothing is among the defenses."""

    config: Config
    parts: tuple[Part, ...]
    certified: int = 0
    noises: int = 0
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeded: tuple[str, ...] | None = None
    """Those that every seed has; the others are of the first seed alone. None: all."""
    minutes: dict[str, float] = field(default_factory=dict)
    """Cell → what it took on two cores, where it was measured."""


_CHEAP = ("standard", "bit-depth", "bit-depth-retrained", "feature-squeezing", "pgd-at", "trades")
"""Minutes to train and to attack."""
_DEAR = ("squeeze-detector", "gradient-regularisation", "grfd", "cure")
_QUICK = (*_CHEAP, *_DEAR, "ape-gan")
_CIFAR = ("standard", "bit-depth", "grfd", "pgd-at")

_QUICK_MINUTES: dict[str, float] = {
    "fit standard": 0.2,
    "fit bit-depth": 0.1,
    "fit bit-depth-retrained": 0.1,
    "fit feature-squeezing": 0.1,
    "fit pgd-at": 0.3,
    "fit trades": 0.5,
    "fit squeeze-detector": 0.1,
    "fit gradient-regularisation": 0.3,
    "fit grfd": 0.9,
    "fit cure": 0.2,
    "fit ape-gan": 0.9,
    "fgsm on 11 defenses, 1,000 images": 0.6,
    "5 attacks on 11 defenses, 100 images": 10,
    "fit randomized-smoothing": 0.1,
    "5 attacks on randomized-smoothing, 20 images": 0.6,
    "fit cd-vae": 1.3,
    "5 attacks on cd-vae, 20 images": 1.1,
    "certify": 0.1,
    "time": 0.1,
}
_PAPER_MINUTES: dict[str, float] = {
    "fit standard": 2,
    "fit bit-depth": 0,
    "fit bit-depth-retrained": 2,
    "fit feature-squeezing": 0,
    "fit squeeze-detector": 0,
    "fit gradient-regularisation": 4,
    "fit ape-gan": 11,
    "fit grfd": 81,
    "fit pgd-at": 6,
    "fit trades": 13,
    "fit cure": 21,
    "fit randomized-smoothing": 4,
    "fit cd-vae": 28,
    "fit diffpure": 45,
    "2 attacks on 9 defenses, 10,000 images, transfer and whitebox alone": 24,
    "pgd on diffpure, 32 images, transfer and whitebox alone": 94,
}
"""Beside other work (results/table3-seed-0)."""

SCALES: dict[str, Scale] = {
    "quick": Scale(
        config=PRESETS["quick"],
        parts=(
            Part(_QUICK, ("fgsm",), 1000),
            Part(_QUICK, TABLE_1_ATTACKS, 100),
            Part(("randomized-smoothing",), TABLE_1_ATTACKS, 20),
            Part(("cd-vae",), TABLE_1_ATTACKS, 20),
        ),
        certified=20,
        noises=1000,
        recipes={
            "cd-vae": {"epochs": 2, "adversarial_epochs": 1},
            "randomized-smoothing": {"epochs": 2},
            "gradient-regularisation": {"epochs": 2},
            "ape-gan": {"epochs": 1},
            "pgd-at": {"epochs": 2},
            "trades": {"epochs": 2},
            "cure": {"epochs": 1},
        },
        minutes=_QUICK_MINUTES,
    ),
    "paper": Scale(
        config=PRESETS["mnist-lenet5"],
        parts=(
            Part((*_CHEAP, *_DEAR, "ape-gan"), ("fgsm",), 10_000),
            Part((*_CHEAP, *_DEAR), TABLE_1_ATTACKS, 500, later=300),
            Part(("grfd",), TABLE_1_ATTACKS, 1000),
            # what `adaptive` adds to PGD would take ten minutes a model more
            Part(
                (*_CHEAP, "gradient-regularisation", "grfd", "cure"), ("pgd", "eotpgd"), 10_000,
                protocols=("transfer", "whitebox"),
            ),
            Part(("ape-gan",), TABLE_1_ATTACKS, 100),
            Part(("randomized-smoothing",), TABLE_1_ATTACKS, 100),
            Part(("cd-vae",), TABLE_1_ATTACKS, 100),
            # three minutes an image for PGD alone
            Part(("diffpure",), ("fgsm",), 32),
            Part(("diffpure",), ("pgd",), 32, protocols=("transfer", "whitebox")),
        ),
        certified=500,
        noises=10_000,
        recipes={"diffpure": {"epochs": 2}},
        seeded=_CHEAP,
        minutes=_PAPER_MINUTES,
    ),
    **{
        f"{data}-small": Scale(
            config=PRESETS[f"{data}-small"],
            parts=(
                Part(_CIFAR, ("fgsm",), 1000),
                Part(_CIFAR, TABLE_1_ATTACKS, 200),
                Part(("feature-squeezing",), TABLE_1_ATTACKS, 50),
            ),
            recipes={"pgd-at": {"eps": 8 / 255, "step_size": 5 / 255, "steps": 2, "epochs": epochs}},
        )
        for data, epochs in (("cifar10", 8), ("cifar100", 20))
    },
}  # fmt: skip
"""MNIST's "quick" and "paper"; behind its name, those of another data set."""
