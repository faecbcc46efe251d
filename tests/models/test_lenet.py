import pytest
import torch
from torch import nn

from grfd.errors import UserError
from grfd.models import MODELS, architecture
from grfd.models.lenet import ConvMaxPool, LeNet5


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("size", [12, 28])
@pytest.mark.parametrize("channels", [1, 3])
def test_conv_max_pool_is_convolution_then_pooling(padding: int, size: int, channels: int) -> None:
    """Values, input gradients and weight gradients of the layer by blocks are those of the two plain layers."""
    torch.manual_seed(0)
    ours = ConvMaxPool(channels, 5, padding=padding).double()
    plain = nn.Conv2d(channels, 5, 5, padding=padding).double()
    plain.load_state_dict(ours.state_dict())
    images = torch.rand(3, channels, size, size, dtype=torch.float64, requires_grad=True)
    weights = torch.rand_like(ours(images))
    results = []
    for layer in (ours, nn.Sequential(plain, nn.MaxPool2d(2))):
        outputs = layer(images)
        results.append([outputs, *torch.autograd.grad((outputs * weights).sum(), [images, *layer.parameters()])])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_conv_max_pool_differentiates_twice() -> None:
    torch.manual_seed(0)
    layer = ConvMaxPool(1, 2).double()
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).square(), images)


@pytest.mark.parametrize(("height", "width", "channels", "classes"), [(28, 28, 1, 10), (32, 32, 3, 7), (12, 20, 1, 2)])
def test_logits_for_any_size(height: int, width: int, channels: int, classes: int) -> None:
    model = LeNet5(channels, classes, height, width)
    assert model(torch.rand(4, channels, height, width)).shape == (4, classes)


@pytest.mark.parametrize("name", MODELS)
def test_registered_models_build(name: str) -> None:
    model = architecture(name, channels=1, classes=10, height=28, width=28)()
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_unknown_model_is_named() -> None:
    with pytest.raises(UserError, match="unknown model 'lenet6'"):
        architecture("lenet6", channels=1, classes=10, height=28, width=28)


def test_size_that_lenet_cannot_take_is_named() -> None:
    with pytest.raises(UserError, match="30×28"):
        architecture("lenet5", channels=1, classes=10, height=30, width=28)()


def test_own_model_by_name() -> None:
    assert isinstance(architecture("torch.nn:Identity", channels=1, classes=10, height=28, width=28)(), nn.Identity)


@pytest.mark.parametrize("name", ["no_such_package:f", "torch.nn:NoSuchLayer", "torch:__version__"])
def test_own_model_that_cannot_be_had(name: str) -> None:
    with pytest.raises(UserError, match=name):
        architecture(name, channels=1, classes=10, height=28, width=28)
