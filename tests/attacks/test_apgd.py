"""Auto-PGD: its schedule, its step halving, its targets."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import apgd_ce, apgd_t, pgd
from grfd.attacks._apgd_run import checkpoints


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [3, 5, 6, 7, 8, 9, 10]
    assert checkpoints(1) == [1]


def test_the_step_shrinks_until_an_optimum_inside_the_ball_is_met() -> None:
    images, labels = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.long)
    optimum = 0.5 + 0.07 * torch.rand(16, generator=torch.Generator().manual_seed(0))

    def model(x: Tensor) -> Tensor:
        distance = ((x.flatten(1) - optimum) ** 2).sum(1, keepdim=True)
        return torch.cat([torch.ones_like(distance), -distance], 1)

    result = apgd_ce(model, images, labels, eps=0.1, generator=torch.Generator().manual_seed(0))
    fixed = pgd(model, images, labels, eps=0.1, step_size=0.2, steps=100, random_start=False)
    assert (result.flatten() - optimum).abs().max() < 0.01
    assert (fixed.flatten() - optimum).abs().max() > 0.05


def test_further_targets_are_tried_where_the_likeliest_cannot_be_reached() -> None:
    """Class 1 is the likeliest wrong one, but flat: only class 2, further off, can be reached."""
    weights = torch.tensor([[0.0], [0.0], [30.0], [0.0]])
    bias = torch.tensor([0.0, -1.0, -17.0, -30.0])

    def model(x: Tensor) -> Tensor:
        return x.flatten(1) @ weights.T + bias

    images, labels = torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, dtype=torch.long)
    assert model(images)[0].argsort(descending=True).tolist() == [0, 1, 2, 3]
    generator = torch.Generator().manual_seed(0)
    reached = [
        (model(apgd_t(model, images, labels, eps=0.1, steps=20, targets=count, generator=generator)).argmax(1)).item()
        for count in (1, 2, 9)
    ]
    assert reached == [0, 2, 2]


@pytest.mark.parametrize("attack", [apgd_ce, apgd_t])
def test_logits_of_any_scale(attack: Callable[..., Tensor], victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    result = attack(lambda x: 1e4 * net(x), images, labels, eps=0.1, steps=10)
    assert (net(result).argmax(1) == labels).float().mean() < 0.3
