"""The L1 ball: its projection beside a slow reference, sparse steps, and attacks on models with a known optimum."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from grfd.attacks.threat import Batch, length, onto_l1_ball, project, random_point, sparse_signs


def _batch(images: Tensor, eps: float) -> Batch:
    labels = torch.zeros(len(images), dtype=torch.long)
    return Batch(images, labels, torch.zeros_like(images), torch.ones_like(images), eps, "l1", images.dtype)


def _bisected(change: Tensor, room: Tensor, radius: float) -> Tensor:
    """The projection of one flat change in float64: λ by 200 bisections."""
    change, room = change.double(), room.double()

    def lowered(threshold: float) -> Tensor:
        return (change.abs() - threshold).clamp_min(0).minimum(room) * change.sign()

    low, high = 0.0, change.abs().max().item()
    if lowered(0.0).abs().sum() <= radius:
        return lowered(0.0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if lowered(middle).abs().sum() > radius else (low, middle)
    return lowered(high)


@settings(max_examples=60, deadline=None)
@given(
    side=st.integers(1, 28),
    channels=st.sampled_from([1, 3]),
    eps=st.floats(0, 40),
    reach=st.floats(0.01, 5),
    grid=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_projection_is_inside_idempotent_and_that_of_a_bisection(
    side: int, channels: int, eps: float, reach: float, grid: bool, seed: int
) -> None:
    """`grid`: pixels and changes on a coarse grid, so that many places at which the sum bends coincide."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, channels, side, side, generator=generator)
    change = reach * torch.randn(images.shape, generator=generator)
    if grid:
        images, change = (images * 4).round() / 4, (change * 4).round() / 4
    batch = _batch(images, eps)
    projected = project(images + change, batch)
    assert projected.min() >= 0 and projected.max() <= 1
    assert (length(projected - images, "l1") <= eps * (1 + 1e-5) + 1e-5).all()
    assert torch.allclose(project(projected, batch), projected, atol=1e-6)
    for image, moved, result in zip(images, images + change, projected, strict=True):
        wanted = moved.double() - image.double()
        room = torch.where(wanted > 0, 1 - image.double(), image.double())
        exact = _bisected(wanted.flatten(), room.flatten(), eps)
        assert torch.allclose((result.double() - image.double()).flatten(), exact, atol=1e-5, rtol=0)


def test_without_a_box_the_projection_lowers_magnitudes_by_one_threshold() -> None:
    change = torch.tensor([[3.0, -1.0, 0.5], [0.1, 0.0, -0.2]])
    projected = onto_l1_ball(change, torch.full_like(change, torch.inf), torch.tensor([2.0, 1.0]))
    assert torch.allclose(projected, torch.tensor([[2.0, 0.0, 0.0], [0.1, 0.0, -0.2]]))


def test_a_full_pixel_leaves_its_excess_to_the_others() -> None:
    """Onto the ball and then into the box would give (0.25, 0): the ball's nearest point is (1, 0)."""
    images = torch.tensor([0.75, 0.5]).view(1, 1, 1, 2)
    projected = project(images + torch.tensor([2.0, 0.5]), _batch(images, 0.5))
    assert torch.allclose(projected.flatten(), torch.tensor([1.0, 0.75]))


def test_sparse_signs_share_one_unit_between_the_largest_gradients() -> None:
    gradient = torch.tensor([[4.0, -3.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).view(2, 1, 2, 2)
    step = sparse_signs(gradient, torch.tensor([0.5, 0.5])).flatten(1)
    assert step.tolist() == [[0.5, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    single = sparse_signs(gradient, torch.tensor([0.01, 0.01])).flatten(1)
    assert single.tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("eps", [0.0, 0.5, 12.0])
def test_random_points_are_inside_and_differ(eps: float) -> None:
    images = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    points = random_point(_batch(images, eps), torch.Generator().manual_seed(1))
    sizes = length(points - images, "l1")
    assert (sizes <= eps * (1 + 1e-5) + 1e-6).all() and points.min() >= 0 and points.max() <= 1
    assert eps == 0 or len(sizes.unique()) == 8
