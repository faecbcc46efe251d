"""Opens a trained classifier by what the user calls it: timm/NAME, hf/NAME, a file with a program, or a factory."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from grfd.errors import UserError
from grfd.models.exported import is_exported, open_exported
from grfd.models.hugging_face import HUGGING_FACE, open_hugging_face
from grfd.models.opened import OpenedModel, names_of
from grfd.models.own import factory, imported
from grfd.models.timm_models import TIMM, open_timm
from grfd.models.weights import load_given

NAMES_OF_MODELS = "package.module:factory, timm/NAME, hf/DIRECTORY, hf/ORG/NAME, FILE.pt2, or FILE.pt (TorchScript)"

_OPENERS: dict[str, Callable[[str, Path | None], OpenedModel]] = {TIMM: open_timm, HUGGING_FACE: open_hugging_face}
"""Prefix of a name → what opens it."""


def open_model(name: str, weights: Path | None = None) -> OpenedModel:
    """The network that a name stands for, with its weights. Raises `UserError`.

    Call it only with a name that the user has given: a factory is code, which is imported.
    """
    if ":" in name:
        network = factory(name, imported(name))()
        if weights is not None:
            load_given(network, weights)
        return _described_by_itself(network)
    for prefix, opener in _OPENERS.items():
        if name.startswith(prefix):
            return opener(name, weights)
    if is_exported(name):
        if weights is not None:
            raise UserError(f"--weights does not apply to {name}: the file holds its weights")
        return _described_by_itself(open_exported(name))
    raise UserError(f"model {name!r}: expected {NAMES_OF_MODELS}")


def _described_by_itself(network: nn.Module) -> OpenedModel:
    """A user's own network. It may declare `class_names`."""
    return OpenedModel(network, classes=names_of(network))
