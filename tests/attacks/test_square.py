"""The Square attack: its schedule, its squares, its queries, and that it needs no gradient."""

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import square
from grfd.attacks._square import _side, _squares


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.8), (0.001, 0.8), (0.0011, 0.4), (0.03, 0.1), (0.81, 0.8 / 512)]
)
def test_the_squares_shrink_as_in_the_paper(progress: float, share: float) -> None:
    assert _side(progress, 0.8, torch.empty(1, 3, 32, 32)) == max(round((share * 32 * 32) ** 0.5), 1)


def test_the_first_square_fits_into_a_narrow_image() -> None:
    assert _side(0.0, 0.8, torch.empty(1, 1, 2, 50)) == 2


@pytest.mark.parametrize("side", [1, 2, 4])
def test_squares_lie_anywhere_inside_the_image(side: int) -> None:
    area = _squares(torch.empty(400, 2, 4, 5), side, torch.Generator().manual_seed(0))
    inside = area != 0
    assert inside.sum((2, 3)).eq(side * side).all()
    assert inside.any(3).sum(2).eq(side).all() and inside.any(2).sum(2).eq(side).all()
    assert torch.equal(inside[:, 0], inside[:, 1])
    assert inside.any(0).all()
    signs = area.sum((2, 3)) / side**2
    assert set(signs.unique().tolist()) == {-1.0, 1.0} and bool((signs[:, 0] != signs[:, 1]).any())


def test_a_model_without_gradient_is_fooled_at_the_corners_of_the_ball(
    victim: tuple[nn.Module, Tensor, Tensor],
) -> None:
    net, images, _ = victim

    def model(x: Tensor) -> Tensor:
        return net((x.detach() * 64).round() / 64)

    labels = model(images).argmax(1)
    result = square(model, images, labels, eps=0.1, n_queries=300, generator=torch.Generator().manual_seed(0))
    assert (model(result).argmax(1) == labels).float().mean() < 0.25
    corners = torch.stack([images, (images - 0.1).clamp(0, 1), (images + 0.1).clamp(0, 1)])
    assert (result == corners).any(0).all()


def test_queries_are_counted(victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    rows: list[int] = []
    net.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    square(net, images, labels, eps=0.001, n_queries=20, samples=2, active_set=False)
    assert rows == [2 * len(images)] * 21


def test_samples_help_against_a_random_model(victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    accuracies = []
    for samples in (1, 32):
        noise = torch.Generator().manual_seed(0)

        def model(x: Tensor, noise: torch.Generator = noise) -> Tensor:
            return net(x + 0.05 * torch.randn(x.shape, generator=noise))

        result = square(model, images, labels, eps=0.1, n_queries=200, samples=samples, active_set=False)
        accuracies.append((net(result).argmax(1) == labels).float().mean().item())
    assert accuracies[1] < accuracies[0] - 0.1
