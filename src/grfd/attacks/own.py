"""A user's own attack, named as package.module:function, with the signature of all attacks."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from grfd.errors import UserError
from grfd.models.own import imported, own_code_errors_explained
from grfd.types import Images

OFFERED = ("eps", "norm", "bounds", "generator", "active_set")
"""The keywords that the judge can give to a user's attack. It receives those that it has parameters for."""


@cache
def own_attack(name: str) -> Callable[..., Images]:
    """The attack `(model, images, labels, **keywords) → images` that a name like `mine:attack` stands for.

    Raises `UserError` if it cannot be imported, or if it requires a keyword that the judge does not give. A call
    raises `UserError` for any exception of its code, and for a result that is not a tensor.
    """
    function = imported(name, "attack")
    accepted = _accepted(name, function)

    def attack(model: Any, images: Images, labels: Any, **keywords: Any) -> Images:
        chosen = {key: value for key, value in keywords.items() if key in accepted}
        with own_code_errors_explained(f"attack {name}"):
            adversarial = function(model, images.clone(), labels.clone(), **chosen)
        if not isinstance(adversarial, torch.Tensor):
            raise UserError(f"attack {name} returned a {type(adversarial).__name__}: expected a tensor of images")
        return adversarial.detach()

    return attack


def _accepted(name: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """The keywords among `OFFERED` that the function takes."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise UserError(f"attack {name}: its parameters are unknown ({error})") from error
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [each for each in parameters if each.kind in places]
    any_number = any(each.kind == inspect.Parameter.VAR_POSITIONAL for each in parameters)
    if len(positional) < 3 and not any_number:
        raise UserError(f"attack {name}: expected a function of (model, images, labels, *, eps, …)")
    others = [each for each in parameters if each not in positional[:3]]
    single = [each for each in others if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    for each in single:
        if each.default is each.empty and each.name not in OFFERED:
            raise UserError(f"attack {name} requires {each.name!r}, but the judge gives only {', '.join(OFFERED)}")
    if any(each.kind == each.VAR_KEYWORD for each in others):
        return OFFERED
    return tuple(each.name for each in single)
