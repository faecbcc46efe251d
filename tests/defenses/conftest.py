"""Small data and one run folder in which every defense is fitted."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import grfd
from grfd.data.record import as_images
from grfd.defenses import DEFENSES

SHORT: dict[str, dict[str, Any]] = {
    "cd-vae": {"epochs": 6, "adversarial_epochs": 6, "eps": 0.03, "steps": 2, "latent": 32, "learning_rate": 0.003},
    "randomized-smoothing": {"epochs": 8, "votes": 21},
    "gradient-regularisation": {"epochs": 8},
    "ape-gan": {"epochs": 2, "learning_rate": 0.001},
    "diffpure": {
        "levels": (40, 80),
        "widths": (16, 16),
        "epochs": 2,
        "reverse_steps": 3,
        "surrogate_steps": 2,
        "clean": 0.5,
    },
    "grfd-free": {"epochs": 4, "learning_rate": 0.005},
    "n-fgsm": {"epochs": 10, "learning_rate": 0.003},
    "grfd-robust": {"epochs": 10, "learning_rate": 0.003, "eps": 0.11},
    "pgd-at": {"epochs": 10, "learning_rate": 0.003},
    "trades": {"epochs": 6, "learning_rate": 0.003},
    "cure": {"epochs": 3},
    "guided-denoiser": {"epochs": 2, "width": 8},
    "distillation": {"epochs": 6},
    "feature-scattering": {"epochs": 8, "learning_rate": 0.003},
    "trs": {"epochs": 5, "steps": 1, "learning_rate": 0.005},
    "bayesian": {"epochs": 10},
    "magnet": {"epochs": 10, "learning_rate": 0.01},
    "total-variation": {"iterations": 20},
    "robust-components": {"epochs": 3, "steps": 1, "learning_rate": 0.005},
}
CONFIG: dict[str, Any] = {
    "epochs": 2,
    "classifier_epochs": 8,
    "classifier_learning_rate": 0.003,
    "batch": 64,
    "latent": 16,
    "device": "cpu",
}


@pytest.fixture(scope="session")
def digits() -> grfd.Data:
    """MNIST's digits at 12×12: 2,000 to train on, 200 to test on."""
    mnist = grfd.load("mnist")

    def shrunk(split: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = F.avg_pool2d(as_images(split.images[:count])[..., 2:26, 2:26], 2)
        return images, split.labels[:count]

    return grfd.from_tensors(*shrunk(mnist.train, 2_000), *shrunk(mnist.test, 200))


@pytest.fixture(scope="session")
def fit_some(digits: grfd.Data, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[str]], Path]:
    """Fits the defenses of these names, the first of which is standard, in a run folder of its own."""

    def fit(names: Iterable[str]) -> Path:
        out = tmp_path_factory.mktemp("defenses") / "run"
        for name in names:
            grfd.fit(name, out, data=digits, recipe=SHORT.get(name), **(CONFIG if name == "standard" else {}))
        return out

    return fit


@pytest.fixture(scope="session")
def fitted(fit_some: Callable[[Iterable[str]], Path]) -> Path:
    """A run folder with every defense. It takes a minute, so only one file may ask for it: files have their process."""
    return fit_some(DEFENSES)
