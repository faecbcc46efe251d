"""Networks by name: what is registered, timm's, a user's own."""

import sys

import pytest
import torch
import torchvision_operators
from torchvision_operators import NEEDS_TIMM

from grfd.errors import UserError
from grfd.models import architecture

SIZE = {"channels": 3, "classes": 7, "height": 32, "width": 32}


@pytest.mark.parametrize("name", ["lenet5", "small-resnet", "wrn-10-1"])
def test_registered_ones_are_built_for_the_data(name: str) -> None:
    assert architecture(name, **SIZE)()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_an_unknown_name_is_one_line_that_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown model 'vgg': expected one of lenet5, small-resnet, .*timm/NAME"):
        architecture("vgg", **SIZE)


def test_timm_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"'timm/resnet18' needs timm and torchvision .*pip install"):
        architecture("timm/resnet18", **SIZE)()


@NEEDS_TIMM
def test_timm_s_networks_are_built_for_the_data() -> None:
    torchvision_operators.declare()
    assert architecture("timm/resnet18", **SIZE)()(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    with pytest.raises(UserError, match="timm/no-such-net"):
        architecture("timm/no-such-net", **SIZE)()
