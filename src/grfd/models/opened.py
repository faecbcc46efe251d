"""A trained classifier as it is opened by its name, and the layers that grfd puts around networks of others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grfd.data.class_names import ClassNames, names_in
from grfd.types import Images


@dataclass(frozen=True)
class OpenedModel:
    """A network with what it says of its images and its classes. None: it does not say."""

    network: nn.Module
    """Images in [0, 1] → logits."""
    resize: int | None = None
    crop: int | None = None
    channels: int | None = None
    classes: ClassNames | None = None
    """All names of each class, in the order of the logits."""


class Normalised(nn.Module):
    """A network behind its normalisation, so that ε is in pixels: (images − mean) / std.

    `head`: the prefix of its last layer in its state, which depends on the number of classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float], head: str = "") -> None:
        super().__init__()
        self.network = network
        self.head = head
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, images: Images) -> Any:
        return logits_in(self.network((images - self.mean) / self.std))


class LogitsOf(nn.Module):
    """A network whose answer is not a tensor of float32 logits, or which takes images of another type.

    Other attributes, such as those of a defense, are the network's.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Images) -> Any:
        answer = logits_in(self.network(images.to(input_type(self.network) or images.dtype)))
        return answer.float() if isinstance(answer, Tensor) and answer.is_floating_point() else answer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":
                raise
            return getattr(self.network, name)


def logits_in(answer: object) -> object:
    """The logits in a dict, in an output of transformers, or at the start of a tuple; other answers unchanged."""
    if isinstance(answer, Mapping) and "logits" in answer:
        return answer["logits"]
    if not isinstance(answer, Tensor | Mapping) and isinstance(getattr(answer, "logits", None), Tensor):
        return answer.logits  # type: ignore[attr-defined]
    if isinstance(answer, tuple | list) and answer and isinstance(answer[0], Tensor) and answer[0].ndim == 2:
        return answer[0]
    return answer


def input_type(network: nn.Module) -> torch.dtype | None:
    """The type of a network's weights if all have one type, but not float32; otherwise None."""
    types = {each.dtype for each in network.parameters() if each.is_floating_point()}
    return next(iter(types)) if len(types) == 1 and types != {torch.float32} else None


@torch.no_grad()
def with_plain_logits(network: nn.Module, images: Images) -> nn.Module:
    """The network itself, or wrapped in `LogitsOf` if its answer needs it. `images`: one or several to try it with."""
    if input_type(network) is not None:
        return LogitsOf(network)
    training = {module: module.training for module in network.modules()}
    try:
        network.eval()
        answer = network(images.clone())
    except Exception:  # `check_answers` reports it
        return network
    finally:
        for module, mode in training.items():
            module.training = mode
    return network if isinstance(answer, Tensor) or logits_in(answer) is answer else LogitsOf(network)


def bare(network: nn.Module) -> nn.Module:
    """The network without the layers that grfd put around it."""
    while isinstance(network, Normalised | LogitsOf):
        network = network.network
    return network


def names_of(network: nn.Module) -> ClassNames | None:
    """The class names that a network declares: `class_names`, or `config.id2label` as in transformers."""
    inner = bare(network)
    named = getattr(inner, "class_names", None)
    if isinstance(named, list | tuple) and named:
        return tuple((each,) if isinstance(each, str) else tuple(map(str, each)) for each in named)
    labels = getattr(getattr(inner, "config", None), "id2label", None)
    if not isinstance(labels, Mapping) or not labels:
        return None
    texts = [str(labels[key]) for key in sorted(labels, key=int)]
    return None if all(text.startswith("LABEL_") for text in texts) else tuple(names_in(text) for text in texts)
