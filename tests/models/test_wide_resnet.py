"""WRN: the published sizes, any depth and width, what it cannot take."""

import pytest
import torch

from grfd.errors import UserError
from grfd.models import architecture
from grfd.models.wide_resnet import WideResNet


def built(name: str, side: int = 32, channels: int = 3, classes: int = 10) -> torch.nn.Module:
    return architecture(name, channels=channels, classes=classes, height=side, width=side)()


# Zagoruyko & Komodakis 2016, table 3 and 4, in millions
@pytest.mark.parametrize(
    ("name", "millions"), [("wrn-40-1", 0.6), ("wrn-40-2", 2.2), ("wrn-16-8", 11.0), ("wrn-28-10", 36.5)]
)
def test_it_has_as_many_parameters_as_published(name: str, millions: float) -> None:
    with torch.device("meta"):
        found = sum(weight.numel() for weight in built(name).parameters()) / 1e6
    assert found == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("side", "channels", "classes"), [(32, 3, 100), (28, 1, 10), (16, 3, 2)])
def test_logits_for_any_size(side: int, channels: int, classes: int) -> None:
    images = torch.rand(2, channels, side, side)
    assert built("wrn-10-1", side, channels, classes)(images).shape == (2, classes)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    model, images = WideResNet(10, 2), torch.rand(4, 3, 16, 16)
    model(images)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_its_rate_may_be_named() -> None:
    assert built("wrn-10-1").blocks[0].dropout.p == 0.3
    assert built("wrn-10-1-dropout-0").blocks[0].dropout.p == 0
    assert built("wrn-10-1-dropout-0.15").blocks[0].dropout.p == 0.15


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [("wrn-27-10", 32, "must be 6n"), ("wrn-28-0", 32, "must be at least 1"), ("wrn-28-10", 30, "multiples of 4"),
     ("wrn-28", 32, "unknown model"), ("wrn-10-1-dropout-1", 32, "dropout must be below 1")],
)  # fmt: skip
def test_mistakes_are_named(name: str, side: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(name, side)
