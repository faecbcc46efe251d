"""A caller's networks are given back as they were, and told apart by what they hold or answer."""

import pytest
import torch
from torch import nn

from grfd.models.state import identity_of, is_quantised, left_as_they_were

IMAGES = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3), nn.Dropout())


def test_everything_is_given_back() -> None:
    model = network()
    model[3].eval()
    model[1].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    replaced = model[2].running_mean
    with left_as_they_were(model), pytest.raises(ZeroDivisionError):
        model.requires_grad_(True)
        model.eval()
        model[2].train()
        model(IMAGES)
        model[2].running_mean = torch.ones(3)
        raise ZeroDivisionError
    assert [part.training for part in model] == [True, True, True, False]
    assert not model[1].weight.requires_grad and model[1].bias.requires_grad
    assert model[2].running_mean is replaced
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_networks_are_told_apart_by_their_weights() -> None:
    first, second = network(), network()
    assert identity_of(first) != identity_of(second)
    second.load_state_dict(first.state_dict())
    assert identity_of(first) == identity_of(second)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_networks_are_known_and_told_apart() -> None:
    first, second = (
        torch.ao.quantization.quantize_dynamic(network().eval(), {nn.Linear}, dtype=torch.qint8) for _ in range(2)
    )
    assert is_quantised(first) and not is_quantised(network())
    assert identity_of(first) == identity_of(first) != identity_of(second)
