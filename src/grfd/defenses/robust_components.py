"""Robust architectural components (Peng et al. 2023, arXiv:2308.16258), trained by PGD-AT.

The defense is a network: SiLU, squeeze-and-excitation and a stem without early halving (`models/robust_resnet.py`)
take the place of the run's network, and adversarial training is that of `pgd-at`. Compare it with `pgd-at` on a plain
network of about as many weights. The authors' network (RaWRN) has stages of 30, 31 and 10 blocks with 216, 432 and 864
maps, and was trained on 50 million generated images; ours has five blocks with 12, 24 and 40 maps (scaled by us).
Adaptive attack: direct.
"""

from typing import Any

from torch import nn

from grfd.defenses import recipes
from grfd.defenses.pgd_at import COLOUR as _COLOUR
from grfd.defenses.pgd_at import GREY as _GREY
from grfd.defenses.pgd_at import AdversarialTraining, Recipe
from grfd.models.robust_resnet import RobustResNet
from grfd.runs import load_weights
from grfd.training.classification import train_under
from grfd.training.job import Job

NAME = "robust-components"
TITLE = "robust components"
NARROW_TITLE = "robust\ncomponents"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "CIFAR-10, 8/255: 71.1 % under AutoAttack, where a WRN-70-16 keeps 70.7 % (RobustBench)."
GREY: dict[str, Any] = _GREY
COLOUR: dict[str, Any] = _COLOUR

__all__ = ["COLOUR", "FILES", "GREY", "LITERATURE", "NAME", "NARROW_TITLE", "TITLE", "Recipe", "fit", "load"]


def _fresh(job: Job) -> nn.Module:
    channels, height, width = job.data.train.images.shape[1:]
    return RobustResNet(channels, len(job.data.classes), height, width)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the network of robust components, and writes robust-components.safetensors."""
    optimisation = recipes.optimisation_of(recipe)

    def objective(model: nn.Module) -> nn.Module:
        return AdversarialTraining(model, recipe)

    train_under(job, NAME, objective, optimisation, start=lambda: _fresh(job), averaging=recipe.averaging)


def load(job: Job) -> nn.Module:
    """The trained network, in eval mode."""
    model = _fresh(job)
    load_weights(model, job.run.file(f"{NAME}.safetensors"))
    return model.eval()
