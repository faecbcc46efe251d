"""One defense a file: how it is fitted, what it deploys, how it is attacked adaptively.

A defense is an `nn.Module`, images → logits. It may say more of itself, and nothing else tells defenses apart:

- `stochastic: bool`: its answers are random; it is attacked in expectation and judged by majority vote;
- `votes: int`: how many answers its majority is of, where that belongs to the defense;
- `surrogate() -> nn.Module`: a differentiable stand-in, where its own forward has no useful gradient (BPDA);
- `stand_ins() -> dict[str, nn.Module]`: others by name that an attacker may differentiate instead; `adaptive` tries
  each, and judges what it finds on the defense itself;
- `deterministic() -> nn.Module`: itself without its randomness, for the `whitebox` protocol;
- `rejection: int`: index of the logit that says "rejected", behind those of the classes, where it may refuse an answer:
  wrong on a clean image, and on an attacked one as good as the right answer;
- `seen(images)`: what its classifier is shown, where that is not the image, for the gallery;
- `residual(images)` and `target`: what the `residual` protocol attacks, where there is one.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from grfd.defenses import (
    ape_gan,
    bit_depth,
    bit_depth_retrained,
    cd_vae,
    cure,
    diffpure,
    feature_squeezing,
    gradient_regularisation,
    grfd,
    grfd_robust,
    pgd_at,
    smoothing,
    squeeze_detector,
    standard,
    trades,
)
from grfd.runs import Run
from grfd.training.job import Job


class DefenseModule(Protocol):
    """A file of this folder: all that fitting, loading, tables and pages need to know of a defense.

    `TITLE`: as tables print it. `FILES`: what `fit` leaves in the run folder. `LITERATURE`: what evaluations that hold
    found of it, in a sentence; not at the budgets of Table 1, nor all on MNIST; "" where there is none.
    `Recipe`: its settings, a dataclass. `GREY` and `COLOUR`: the literature's values of those that are None, for grey
    images and for colour.
    A file may also define `NARROW_TITLE`, the title broken into lines, and `check(recipe, data, config)`, which raises
    `UserError` before anything is written.
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
        """Trains what is missing in the run folder."""

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
    "grfd": grfd,
    "grfd-robust": grfd_robust,
    "pgd-at": pgd_at,
    "trades": trades,
    "cure": cure,
}
"""In the order of the paper's Table 3, then ours, then the yardsticks that it leaves out."""


def is_fitted(run: Run, name: str) -> bool:
    return all(run.has(file) for file in DEFENSES[name].FILES)


def is_stochastic(defense: nn.Module) -> bool:
    return bool(getattr(defense, "stochastic", False))


def has_residual(defense: object) -> bool:
    """Whether it classifies a residual; many networks have a layer of that name, which says nothing."""
    residual = getattr(defense, "residual", None)
    is_method = callable(residual) and not isinstance(residual, nn.Module)
    return is_method and isinstance(getattr(defense, "target", None), nn.Module)
