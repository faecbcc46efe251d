"""Target classifiers, images → logits. Each normalises in its own first layer, so that callers use [0, 1] pixels."""

from collections.abc import Callable
from functools import partial

from torch import nn

from grfd.errors import UserError
from grfd.models.lenet import LeNet5
from grfd.models.own import described, factory, imported
from grfd.models.resnet import SmallResNet
from grfd.models.wide_resnet import WIDE_RESNET, wide_resnet_named

Architecture = Callable[[], nn.Module]
"""Returns a new target model with fresh weights, drawn from PyTorch's global generator."""

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "small-resnet": SmallResNet,
}
"""Name → constructor, called with `channels`, `classes`, `height` and `width`. Wide residual networks have no entry."""


def architecture(name: str, *, channels: int, classes: int, height: int, width: int) -> Architecture:
    """The constructor of a registered model, of wrn-DEPTH-WIDTH, of timm/NAME, or of `package.module:factory`.

    A factory is called without arguments. Raises `UserError` for an unknown name, a module that cannot be imported and
    an image size that the model does not take. Call it only with a name that the user has given: it imports that code.
    """
    if ":" in name:
        return factory(name, imported(name))
    if name.startswith("timm/"):
        return partial(_from_timm, name, channels, classes)
    known = [*MODELS, "wrn-DEPTH-WIDTH[-dropout-RATE]", "timm/NAME"]
    if name not in MODELS and not WIDE_RESNET.fullmatch(name):
        raise UserError(f"unknown model {name!r}: expected one of {', '.join(known)}, or package.module:factory")
    make = MODELS.get(name) or partial(wide_resnet_named, name)

    def build() -> nn.Module:
        try:
            return make(channels=channels, classes=classes, height=height, width=width)
        except ValueError as error:
            raise UserError(f"model {name!r}: {error}") from error

    return build


def _from_timm(name: str, channels: int, classes: int) -> nn.Module:
    """An architecture of timm with fresh weights. Raises `UserError` where timm is missing or lacks the name."""
    try:
        import timm
    except ImportError as error:
        raise UserError(f'model {name!r} needs timm and torchvision ({error}): pip install "grfd[timm]"') from error
    try:
        return timm.create_model(name.removeprefix("timm/"), pretrained=False, in_chans=channels, num_classes=classes)
    except Exception as error:  # each constructor refuses sizes in its own way
        raise UserError(f"model {name!r}: {described(error)}") from error
