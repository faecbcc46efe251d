"""One file for each defense: how it is fitted, what is deployed, and how it is attacked adaptively.

A defense is an `nn.Module`, images → logits. It can declare more about itself with the attributes below. The judge
treats defenses differently only by these attributes, never by name:

- `stochastic: bool`: its answers are random. It is attacked in expectation and judged by majority vote;
- `votes: int`: the number of answers in the majority vote, where that number is part of the defense;
- `averages_probabilities: bool`: a random defense whose class is that of the mean softmax over its `votes` answers, as
  for a Bayesian neural network, instead of the majority's;
- `surrogate() -> nn.Module`: a differentiable model with similar answers, where the defense itself has no useful
  gradient (BPDA, Backward Pass Differentiable Approximation);
- `stand_ins() -> dict[str, nn.Module]`: further models, by name, that an attacker may differentiate instead. The
  protocol `adaptive` attacks each of them, and tries the examples on the defense itself;
- `deterministic() -> nn.Module`: the defense without its randomness, for the protocol `whitebox`;
- `rejection: int`: the index of a logit after those of the classes that means "rejected". A rejection counts as wrong
  on a clean image, and as right on an attacked one;
- `training_temperature: float`: the number by which its logits were divided in training, where it answers without that
  division. The check for saturated logits asks for it;
- `seen(images)`: what its classifier receives, where that is not the image. The gallery shows it;
- `residual(images)` and `target`: what the protocol `residual` attacks, where there is a residual.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from grfd.defenses import (
    ape_gan,
    bayesian,
    bit_depth,
    bit_depth_retrained,
    cd_vae,
    crop_rescale,
    cure,
    diffpure,
    distillation,
    feature_scattering,
    feature_squeezing,
    gradient_regularisation,
    grfd,
    grfd_free,
    grfd_robust,
    guided_denoiser,
    jpeg,
    magnet,
    n_fgsm,
    pgd_at,
    robust_components,
    smoothing,
    squeeze_detector,
    standard,
    total_variation,
    trades,
    trs,
)
from grfd.runs import Run
from grfd.training.job import Job


class DefenseModule(Protocol):
    """A file of this folder: all that fitting, loading, tables and pages need to know about a defense.

    `TITLE`: its name in tables. `FILES`: what `fit` writes to the run folder. `LITERATURE`: what thorough evaluations
    by others found, in one sentence, not at the budgets of the paper's Table 1 and not always on MNIST; empty where
    there is none. `Recipe`: its settings, a dataclass. `GREY` and `COLOUR`: the literature's values of the settings
    that are None, for grey and for colour images. A file may also define `NARROW_TITLE`, the title broken into lines,
    and `check(recipe, data, config)`, which raises `UserError` before anything is written.
    """

    @property
    def TITLE(self) -> str: ...
    @property
    def LITERATURE(self) -> str: ...
    @property
    def FILES(self) -> tuple[str, ...]: ...
    @property
    def GREY(self) -> Mapping[str, Any]: ...
    @property
    def COLOUR(self) -> Mapping[str, Any]: ...
    @property
    def Recipe(self) -> type: ...

    def fit(self, job: Job, recipe: Any) -> None:
        """Trains what the run folder does not hold yet."""

    def load(self, job: Job) -> nn.Module:
        """The trained defense, in eval mode."""


DEFENSES: dict[str, DefenseModule] = {
    "standard": standard,
    "bit-depth": bit_depth,
    "bit-depth-retrained": bit_depth_retrained,
    "feature-squeezing": feature_squeezing,
    "squeeze-detector": squeeze_detector,
    "cd-vae": cd_vae,
    "randomized-smoothing": smoothing,
    "gradient-regularisation": gradient_regularisation,
    "ape-gan": ape_gan,
    "diffpure": diffpure,
    "jpeg": jpeg,
    "total-variation": total_variation,
    "crop-rescale": crop_rescale,
    "magnet": magnet,
    "guided-denoiser": guided_denoiser,
    "distillation": distillation,
    "feature-scattering": feature_scattering,
    "trs": trs,
    "bayesian": bayesian,
    "robust-components": robust_components,
    "grfd": grfd,
    "grfd-free": grfd_free,
    "grfd-robust": grfd_robust,
    "pgd-at": pgd_at,
    "n-fgsm": n_fgsm,
    "trades": trades,
    "cure": cure,
}
"""In the order of the paper's Table 3, then those of its section 2.2, our own, and baselines that the paper lacks."""


def is_fitted(run: Run, name: str) -> bool:
    return all(run.has(file) for file in DEFENSES[name].FILES)


def is_stochastic(defense: nn.Module) -> bool:
    return bool(getattr(defense, "stochastic", False))


def averages_probabilities(defense: nn.Module) -> bool:
    return bool(getattr(defense, "averages_probabilities", False))


def has_residual(defense: object) -> bool:
    """Whether it classifies a residual. A layer that is named `residual`, as many networks have, does not count."""
    residual = getattr(defense, "residual", None)
    is_method = callable(residual) and not isinstance(residual, nn.Module)
    return is_method and isinstance(getattr(defense, "target", None), nn.Module)
