"""A user's own classifier: imported by name, with weights and an adapter, and checked before it is judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from grfd.data.record import Data, as_images
from grfd.errors import UserError
from grfd.evaluation.attacker import may_reject
from grfd.models.checks import check_answers, check_declarations, check_numbers
from grfd.models.opened import OpenedModel, names_of
from grfd.models.opening import open_model
from grfd.models.own import built_network, imported, own_code_errors_explained
from grfd.models.state import is_quantised


@dataclass(frozen=True)
class NamedModel:
    """A network that is named on the command line."""

    name: str
    """One of `opening.NAMES_OF_MODELS`. A factory is called without arguments."""
    weights: Path | None = None
    """A safetensors file, or a .pt or .pth file of weights."""
    adapter: str | None = None
    """package.module:function, network → network."""


def named_source(text: str) -> NamedModel:
    """Reads `package.module:factory`, or another name of a model, or either followed by `=weights.safetensors`."""
    name, _, file = text.partition("=")
    return NamedModel(name, Path(file) if file else None)


def load_named(model: NamedModel) -> OpenedModel:
    """The network that a name stands for, with its weights, wrapped by the adapter, and what it says of itself.

    Raises `UserError` if it cannot be opened.
    """
    opened = open_model(model.name, model.weights)
    if model.adapter is None:
        return opened
    network = built_network(model.adapter, imported(model.adapter), opened.network)
    return replace(opened, network=network, classes=names_of(network) or opened.classes)


def own_models(model: NamedModel, sources: Sequence[str]) -> dict[str, nn.Module]:
    """The models of an evaluation by name: the sources, and "model"."""
    named = {source.name: source for source in map(named_source, sources)} | {"model": model}
    return {name: load_named(each).network for name, each in named.items()}


def check_own(model: nn.Module, data: Data, device: torch.device, name: str) -> None:
    """Raises `UserError` if a user's model gives wrong answers to a few images, or has wrong attributes of a defense.

    Puts the model into eval mode and moves it to the device.
    """
    with own_code_errors_explained(f"{name}: eval()"):
        model.eval()
        model.to(device)
    images = as_images(data.test.images[:3].to(device))
    classes = len(data.classes)
    check_numbers(model, name, classes)
    logits = classes + may_reject(model)
    check_answers(model, images, name, logits, hint="; an adapter can make it so")
    check_declarations(model, images, name, classes)
    surrogate = getattr(model, "surrogate", None)
    if is_quantised(model) and surrogate is None:
        raise UserError(
            f"{name} is quantised, so that attacks have no gradient to follow and it would look too robust: "
            "judge the network before quantisation, or give it a surrogate() that returns that network"
        )
