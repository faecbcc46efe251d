"""Checks of what a model answers and declares, before any work starts. Each fault is reported in one line."""

import re
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grfd.errors import UserError
from grfd.models.own import described
from grfd.types import Images, Logits

_SIZES = (2, 1, 3, 2)
"""The batches that a model is tried with: 1 and 3 images reveal a fixed batch size, 2 images twice a changed state."""
_UNDER_TRAINING = "more than 1 value per channel when training"
"""The message of PyTorch's batch norm for a batch of one image."""


_FOLDER_NAME = re.compile(r"(?![. ])[A-Za-z0-9 ._+=:-]{1,100}(?<! )")
"""What a model's name must look like, since it becomes the name of a folder."""


class Function(nn.Module):
    """A function images → logits as a module. The networks that it refers to keep their mode and their device."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images)


def check_folder_name(name: object) -> None:
    """Raises `UserError` where a model's name cannot be the name of a folder."""
    if not isinstance(name, str) or not _FOLDER_NAME.fullmatch(name):
        raise UserError(
            f"the model's name {_short(name)} cannot name a folder: expected 1 to 100 letters (a to z), digits, spaces "
            "and ._-+=: without a dot or space in front"
        )


def as_module(model: object, name: str) -> nn.Module:
    """The module itself, or a function images → logits as a module. Raises `UserError` for anything else."""
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, type):
        raise UserError(f"{name} is the class {model.__name__}: expected a network, for example {model.__name__}()")
    if not callable(model):
        kind = type(model).__name__
        raise UserError(f"{name} is a {kind}: expected a torch.nn.Module, or a function from images to logits")
    return Function(model)


def answer_of(model: nn.Module, images: Images, who: str, classes: int, hint: str = "") -> Logits:
    """The logits of some images, [n, classes]. Raises `UserError` for any other answer. The model is given a copy.

    `who`: the model's name in the message; `hint`: what the user can do about it.
    """
    count = "1 image" if len(images) == 1 else f"{len(images)} images"
    with torch.no_grad():
        logits = _answer_of_user_code(lambda: model(images.clone()), f"{who} cannot take {_sizes(images)}")
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (len(images), classes):
        answer = tuple(logits.shape) if isinstance(logits, Tensor) else _kind(logits)
        one = " (one logit for two classes? give two: 0 and that logit)" if _is_one_column(logits) else ""
        expected = f"expected one logit for each of the {classes} classes, a tensor of {(len(images), classes)}"
        raise UserError(f"{who} answers with {answer} for {count}: {expected}{one}{hint}")
    if not logits.is_floating_point():
        raise UserError(f"{who} answers with {logits.dtype} numbers: expected floating-point logits{hint}")
    return logits


def check_answers(model: nn.Module, images: Images, who: str, classes: int, hint: str = "") -> None:
    """Raises `UserError` where a model does not answer with logits each time, for batches of every size.

    `classes`: the expected number of logits per image.
    """
    plenty = images[torch.arange(max(_SIZES)) % len(images)]
    answer_of(model, plenty[: _SIZES[0]], who, classes, hint)
    for size in _SIZES[1:]:
        try:
            answer_of(model, plenty[:size], who, classes, hint)
        except UserError as error:
            raise UserError(f"{_when(size)} {error}{_cause(str(error))}") from error


def check_declarations(model: nn.Module, images: Images, who: str, classes: int) -> None:
    """Raises `UserError` where an attribute that a model declares (`grfd.defenses` lists them) is not usable.

    `classes`: the number of classes of the data. A model that can reject an image answers with one logit more.
    """
    check_numbers(model, who, classes)
    logits = classes + says(model, "rejection", who)
    some = images[torch.arange(2) % len(images)]
    for name in ("surrogate", "deterministic"):
        if says(model, name, who):
            other = _module(_call(model, name, who), f"{who}'s {name}()")
            answer_of(other, some, f"{who}'s {name}()", logits)
    if says(model, "stand_ins", who):
        _check_stand_ins(_call(model, "stand_ins", who), some, f"{who}'s stand_ins()", logits)
    for name in ("seen", "residual"):
        if says(model, name, who) and not isinstance(getattr(model, name), nn.Module):
            _check_images(_call(model, name, who, some.clone()), some, f"{who}'s {name}(images)")


def check_numbers(model: nn.Module, who: str, classes: int) -> None:
    """Checks only the attributes that are numbers or truth values. Raises `UserError`."""
    for name in ("stochastic", "averages_probabilities"):
        if says(model, name, who) and not isinstance(getattr(model, name), bool | np.bool_):
            raise UserError(f"{who}'s {name} is {_short(getattr(model, name))}: expected True or False")
    if says(model, "votes", who) and not (_is_count(model.votes) and int(model.votes) > 0):  # type: ignore[arg-type]
        raise UserError(f"{who}'s votes is {_short(model.votes)}: expected a whole number of at least 1")
    if says(model, "training_temperature", who) and not _is_positive(model.training_temperature):
        raise UserError(
            f"{who}'s training_temperature is {_short(model.training_temperature)}: expected a number above 0"
        )
    if says(model, "rejection", who) and not (_is_count(model.rejection) and model.rejection == classes):
        raise UserError(
            f"{who}'s rejection is {_short(model.rejection)}: expected {classes}, the index of the logit behind those "
            f"of the {classes} classes (a model that never rejects has no such attribute)"
        )


def _is_positive(value: object) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and 0 < float(value) < float("inf")  # type: ignore[arg-type]


def says(model: nn.Module, name: str, who: str) -> bool:
    """Whether a model has an attribute. Raises `UserError` where reading it fails."""
    return bool(_answer_of_user_code(lambda: hasattr(model, name), f"{who}'s {name}"))


def _call(model: nn.Module, name: str, who: str, *arguments: Tensor) -> Any:
    method = getattr(model, name)
    if not callable(method):
        raise UserError(f"{who}'s {name} is {_short(method)}: expected a method")
    with torch.no_grad():
        return _answer_of_user_code(lambda: method(*arguments), f"{who}'s {name}()")


def _check_stand_ins(answer: object, images: Images, who: str, classes: int) -> None:
    if not isinstance(answer, dict) or not all(isinstance(name, str) for name in answer):
        raise UserError(f"{who} gives {_kind(answer)}: expected a dict of torch.nn.Module by name")
    for name, other in answer.items():
        answer_of(_module(other, f"{who}[{name!r}]"), images, f"{who}[{name!r}]", classes)


def _check_images(answer: object, images: Images, who: str) -> None:
    if not isinstance(answer, Tensor) or not answer.is_floating_point() or answer.shape != images.shape:
        kind = f"{answer.dtype} {tuple(answer.shape)}" if isinstance(answer, Tensor) else _kind(answer)
        raise UserError(f"{who} gives {kind}: expected a floating-point tensor of {tuple(images.shape)}")


def _module(answer: object, who: str) -> nn.Module:
    if not isinstance(answer, nn.Module):
        raise UserError(f"{who} gives {_kind(answer)}: expected a torch.nn.Module")
    return answer


def _answer_of_user_code(ask: Callable[[], Any], who: str) -> Any:
    """What the user's code returns. Raises `UserError` for any exception in it except Ctrl-C."""
    try:
        return ask()
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:
        raise UserError(f"{who}: {described(error)}") from error


def _sizes(images: Images) -> str:
    return f"images of {tuple(images.shape[1:])}"


def _when(size: int) -> str:
    """Which batch failed. The first batch, of two images, was answered correctly."""
    return "asked a second time:" if size == _SIZES[0] else f"asked with {size} image{'s' * (size > 1)}, not with 2:"


def _cause(message: str) -> str:
    return " (batch norm in training mode? eval() must reach it)" if _UNDER_TRAINING in message else ""


def _kind(answer: object) -> str:
    """The type of an answer, and for a tuple, list or dictionary also the types in it."""
    if isinstance(answer, type):
        return f"the class {answer.__name__}"
    if isinstance(answer, tuple | list | dict):
        parts = [type(part).__name__ for part in (answer.values() if isinstance(answer, dict) else answer)]
        return f"{type(answer).__name__} ({', '.join(parts[:4])}{', …' if len(parts) > 4 else ''})"
    return type(answer).__name__


def _is_one_column(answer: object) -> bool:
    return isinstance(answer, Tensor) and (answer.ndim == 1 or (answer.ndim == 2 and answer.shape[1] == 1))


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:60] + " …"
