"""FAB's projection onto a plane inside a box, against a general solver, and its restarts."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog
from torch import Tensor, nn

from grfd.attacks import fab, fab_t
from grfd.attacks._fab import onto_hyperplane


def _plane(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(point in the box, normal, offset) of a plane that meets the box."""
    generator = torch.Generator().manual_seed(seed)
    point, other = torch.rand(2, 6, dtype=torch.float64, generator=generator)
    normal = torch.randn(6, dtype=torch.float64, generator=generator)
    normal[seed % 6] = 0.0
    return point, normal, normal @ other


def _move(point: Tensor, normal: Tensor, offset: Tensor, norm: str) -> Tensor:
    shape = (1, 1, 2, 3)
    return onto_hyperplane(point.view(shape), normal.view(shape), offset[None], norm, (0.0, 1.0)).flatten()  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_linf_projection_is_the_linear_program(seed: int) -> None:
    point, normal, offset = _plane(seed)
    move = _move(point, normal, offset, "linf")
    # Variables: the move, then t ≥ |move_i|, which is minimised.
    bound = np.concatenate([np.vstack([np.eye(6), -np.eye(6)]), -np.ones((12, 1))], axis=1)
    solved = linprog(
        np.eye(7)[6],
        A_ub=bound,
        b_ub=np.zeros(12),
        A_eq=np.append(normal.numpy(), 0.0)[None],
        b_eq=[(offset - normal @ point).item()],
        bounds=[*((-p, 1 - p) for p in point.tolist()), (0, None)],
    )
    assert solved.success
    assert normal @ (point + move) == pytest.approx(offset.item(), abs=1e-9)
    assert move.abs().max().item() == pytest.approx(solved.fun, abs=1e-9)
    assert bool(((point + move >= -1e-12) & (point + move <= 1 + 1e-12)).all())


@pytest.mark.parametrize("seed", range(20))
def test_l2_projection_is_the_quadratic_program(seed: int) -> None:
    point, normal, offset = _plane(seed)
    move = _move(point, normal, offset, "l2")
    low, high, weights = -point.numpy(), 1 - point.numpy(), normal.numpy()
    distance = (offset - normal @ point).item()
    # Karush, Kuhn, Tucker: the least move along a plane's normal is cut off at the walls, and one multiplier is sought
    multiplier = brentq(lambda m: weights @ np.clip(m * weights, low, high) - distance, -1e6, 1e6, xtol=1e-14)
    least = np.clip(multiplier * weights, low, high)
    assert weights @ least == pytest.approx(distance, abs=1e-9)
    assert normal @ (point + move) == pytest.approx(offset.item(), abs=1e-9)
    assert move.numpy() == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_plane_out_of_reach_draws_every_pixel_to_its_wall(norm: str) -> None:
    point, normal, _ = _plane(1)
    move = _move(point, normal, torch.tensor(100.0, dtype=torch.float64), norm)
    walls = torch.where(normal > 0, 1.0, 0.0).to(point)
    torch.testing.assert_close((point + move)[normal != 0], walls[normal != 0])


@pytest.mark.parametrize("attack", [fab, fab_t])
def test_restarts_begin_elsewhere_and_never_lose(attack, victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    fooled = []
    for restarts in (1, 3):
        generator = torch.Generator().manual_seed(0)
        result = attack(net, images, labels, eps=0.03, steps=10, restarts=restarts, generator=generator)
        fooled.append(net(result).argmax(1) != labels)
    assert bool((fooled[1] | ~fooled[0]).all()) and 0 < fooled[0].sum() < len(images)
