"""How much of Table 3 is run at each scale: which defenses, under which attacks, on how many images."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import PRESETS, Config
from grfd.experiments.table_cells import Part


@dataclass(frozen=True)
class TableScale:
    """The configuration and the parts. `certified`: number of images whose answer randomized smoothing certifies."""

    config: Config
    parts: tuple[Part, ...]
    certified: int = 0
    noises: int = 0
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeded: tuple[str, ...] | None = None
    """The defenses that every seed has; the others have only the first seed. None: all have every seed."""


_CHEAP = ("standard", "bit-depth", "bit-depth-retrained", "feature-squeezing", "pgd-at", "trades")
"""Trained and attacked in minutes."""
_EXPENSIVE = ("squeeze-detector", "gradient-regularisation", "grfd", "cure")
_QUICK = (*_CHEAP, *_EXPENSIVE, "ape-gan")
_OURS = ("grfd-free", "grfd-robust")
_WITHOUT_AUTOATTACK = tuple(name for name in TABLE_1_ATTACKS if name != "aa")
_CIFAR = ("standard", "bit-depth", "grfd", "pgd-at")
_MEDIUM = ("standard", "bit-depth", "grfd", "n-fgsm")
"""One step of adversarial training, since ten cost more than five times as much."""

TABLE_3_SCALES: dict[str, TableScale] = {
    "quick": TableScale(
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
    ),
    "paper": TableScale(
        config=PRESETS["mnist-lenet5"],
        parts=(
            Part((*_CHEAP, *_EXPENSIVE, *_OURS), ("fgsm", "a3"), 1000),
            Part(("standard", "grfd"), TABLE_1_ATTACKS, 1000),
            Part((*_CHEAP, *_EXPENSIVE, *_OURS), _WITHOUT_AUTOATTACK, 500, later=300),
            # on an image that it does not break it takes as long as all others together
            Part((*_CHEAP, *_EXPENSIVE, *_OURS), ("aa",), 200),
            *(Part((name,), (*TABLE_1_ATTACKS, "a3"), 100) for name in ("ape-gan", "randomized-smoothing", "cd-vae")),
            # a single image takes minutes
            Part(("diffpure",), ("fgsm",), 32),
            Part(("diffpure",), ("pgd",), 32, protocols=("transfer", "whitebox")),
        ),
        certified=1000,
        noises=10_000,
        recipes={"diffpure": {"epochs": 2}},
        seeded=_CHEAP,
    ),
    **{
        f"{data}-small": TableScale(
            config=PRESETS[f"{data}-small"],
            parts=(
                Part(_CIFAR, ("fgsm", "a3"), 1000),
                Part(_CIFAR, TABLE_1_ATTACKS, 200),
                Part(("feature-squeezing",), TABLE_1_ATTACKS, 50),
            ),
            recipes={"pgd-at": {"eps": 8 / 255, "step_size": 5 / 255, "steps": 2, "epochs": epochs}},
        )
        for data, epochs in (("cifar10", 8), ("cifar100", 20))
    },
    "cifar10-medium": TableScale(
        # float32 takes 1.7 times as long where the processor has AVX-512 BF16 (docs/decisions.md)
        config=replace(PRESETS["cifar10-medium"], precision="bfloat16"),
        parts=(
            Part((*_MEDIUM, "feature-squeezing"), ("fgsm", "a3"), 500),
            Part(_MEDIUM, _WITHOUT_AUTOATTACK, 500),
            Part(_MEDIUM, ("aa",), 200),
        ),
        recipes={"n-fgsm": {"eps": 8 / 255, "epochs": 12, "learning_rate": 4e-3}},
    ),
}  # fmt: skip
"""The scales of MNIST, then those of other data sets, which begin with the name of the data set."""


def seed_folder(out: Path, scale: str, seed: int) -> Path:
    """The run folder of a scale and a seed: DATA-SCALE-seed-N."""
    data = TABLE_3_SCALES[scale].config.data
    return out / f"{data}-{scale.removeprefix(f'{data}-')}-seed-{seed}"
