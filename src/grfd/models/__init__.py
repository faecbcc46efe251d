"""Target classifiers, images → logits. Each normalises in its own first layer, so that callers use [0, 1] pixels."""

from collections.abc import Callable
from functools import partial

from torch import nn

from grfd.errors import UserError
from grfd.models.exported import is_exported
from grfd.models.hugging_face import HUGGING_FACE, fresh_hugging_face
from grfd.models.lenet import LeNet5
from grfd.models.own import factory, imported
from grfd.models.resnet import SmallResNet
from grfd.models.robust_resnet import RobustResNet
from grfd.models.timm_models import TIMM, fresh_timm
from grfd.models.wide_resnet import WIDE_RESNET, wide_resnet_named

Architecture = Callable[[], nn.Module]
"""Returns a new target model with fresh weights, drawn from PyTorch's global generator."""

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "small-resnet": SmallResNet,
    "robust-resnet": RobustResNet,
}
"""Name → constructor, called with `channels`, `classes`, `height` and `width`. Wide residual networks have no entry."""


_KNOWN = ", ".join([*MODELS, "wrn-DEPTH-WIDTH[-dropout-RATE]", "timm/NAME", "hf/NAME, or package.module:factory"])


def architecture(name: str, *, channels: int, classes: int, height: int, width: int) -> Architecture:
    """The constructor of a registered model, of wrn-DEPTH-WIDTH, timm/NAME, hf/NAME, or `package.module:factory`.

    A factory is called without arguments. Raises `UserError` for an unknown name, a module that cannot be imported and
    an image size that the model does not take. Call it only with a name that the user has given: it imports that code.
    """
    if ":" in name:
        return factory(name, imported(name))
    if name.startswith(TIMM):
        return partial(fresh_timm, name, channels, classes, (height, width))
    if name.startswith(HUGGING_FACE):
        return partial(fresh_hugging_face, name, channels, classes, min(height, width))
    if is_exported(name):
        raise UserError(f"model {name!r} is an exported program, which cannot be trained: expected {_KNOWN}")
    if name not in MODELS and not WIDE_RESNET.fullmatch(name):
        raise UserError(f"unknown model {name!r}: expected one of {_KNOWN}")
    make = MODELS.get(name) or partial(wide_resnet_named, name)

    def build() -> nn.Module:
        try:
            return make(channels=channels, classes=classes, height=height, width=width)
        except ValueError as error:
            raise UserError(f"model {name!r}: {error}") from error

    return build
