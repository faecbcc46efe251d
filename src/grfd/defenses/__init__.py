"""One defense a file: how it is fitted, what it deploys, how it is attacked adaptively.

A defense is an `nn.Module`, images → logits. It may say more of itself, and nothing else tells defenses apart:

- `stochastic: bool`: its answers are random; it is attacked in expectation and judged by majority vote;
- `surrogate() -> nn.Module`: a differentiable stand-in, where its own forward has no useful gradient (BPDA);
- `deterministic() -> nn.Module`: itself without its randomness, for the `whitebox` protocol;
- `residual(images)` and `target`: what the `residual` protocol attacks, where there is one.
"""

from typing import Protocol

from torch import nn

from grfd.data.record import Data
from grfd.defenses import grfd, standard
from grfd.models import Architecture
from grfd.runs import Run


class DefenseModule(Protocol):
    """A file of this folder."""

    def fit(self, run: Run, data: Data, architecture: Architecture) -> None:
        """Trains what is missing in the run folder."""

    def load(self, run: Run, data: Data, architecture: Architecture) -> nn.Module:
        """The trained defense, in eval mode."""


DEFENSES: dict[str, DefenseModule] = {
    "standard": standard,
    "grfd": grfd,
}


def is_stochastic(defense: nn.Module) -> bool:
    return bool(getattr(defense, "stochastic", False))


def has_residual(defense: nn.Module) -> bool:
    return hasattr(defense, "residual")
