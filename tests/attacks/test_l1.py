"""The L1 threat model: the projection against a slow reference, and attacks against the exact optimum of a line."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS
from grfd.attacks.threat import Batch, length, onto_l1_ball_in_box, project, random_point, sparse_signs
from grfd.errors import UserError

L1_ATTACKS = [name for name, entry in ALL_ATTACKS.items() if "l1" in entry.norms]
QUICK = {
    "pgd": {"step_size": 0.5, "steps": 40},
    "eotpgd": {"step_size": 0.5, "steps": 40},
    "square": {"n_queries": 300},
    "aa": {"n_queries": 100, "steps": 40},
}
"""Smaller budgets, for tests."""


def batch(images: Tensor, eps: float) -> Batch:
    labels = torch.zeros(len(images), dtype=torch.long)
    return Batch(images, labels, torch.zeros_like(images), torch.ones_like(images), eps, "l1", images.dtype)


def slow(point: Tensor, image: Tensor, eps: float) -> Tensor:
    """The projection by bisection on the threshold, in float64."""
    change = point.double() - image.double()
    room = torch.where(change > 0, 1 - image.double(), image.double())
    low, high = 0.0, float(change.abs().max()) + 1
    if torch.minimum(change.abs(), room).sum() <= eps:
        return image.double() + change.sign() * torch.minimum(change.abs(), room)
    for _ in range(200):
        middle = (low + high) / 2
        total = torch.minimum((change.abs() - middle).clamp_min(0), room).sum()
        low, high = (middle, high) if total > eps else (low, middle)
    return image.double() + change.sign() * torch.minimum((change.abs() - high).clamp_min(0), room)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), eps=st.floats(0, 12), spread=st.floats(0.01, 3))
def test_the_projection_is_the_nearest_point_of_ball_and_box(seed: int, eps: float, spread: float) -> None:
    stream = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 2, 4, 4, generator=stream, dtype=torch.float64).round(decimals=1)
    points = images + spread * torch.randn(images.shape, generator=stream, dtype=torch.float64)
    near = onto_l1_ball_in_box(points, batch(images, eps))
    assert (near >= 0).all() and (near <= 1).all()
    assert (length(near - images, "l1") <= eps + 1e-9).all()
    for each, point, image in zip(near, points, images, strict=True):
        torch.testing.assert_close(each, slow(point, image, eps), atol=1e-8, rtol=0)
    torch.testing.assert_close(project(near, batch(images, eps)), near, atol=1e-9, rtol=0)


def test_a_sparse_step_has_length_one() -> None:
    gradient = torch.randn(5, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.01, 0.2, 1.0):
        step = sparse_signs(gradient, torch.full((5,), share))
        torch.testing.assert_close(length(step, "l1"), torch.ones(5))
        assert ((step != 0).flatten(1).sum(1) == max(int(100 * share), 1)).all()
    assert not sparse_signs(torch.zeros(2, 1, 3, 3), torch.ones(2)).any()


def test_a_random_point_lies_in_the_ball() -> None:
    images = torch.rand(20, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    points = random_point(batch(images, 2.0), torch.Generator().manual_seed(1))
    sizes = length(points - images, "l1")
    assert (sizes <= 2 + 1e-5).all() and sizes.std() > 0.2


class Line(nn.Module):
    """Two classes: logits 0 and w·(x − ½) + b."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        value = (images - 0.5).flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(value), value], 1)


def least_change(images: Tensor, weight: Tensor, excess: Tensor) -> Tensor:
    """The smallest L1 change that lowers w·x by the excess: the steepest pixels first, as far as the box allows."""
    flat = images.flatten(1)
    room = torch.where(weight > 0, flat, 1 - flat)
    order = weight.abs().argsort(descending=True)
    gain = (room * weight.abs())[:, order]
    used = torch.minimum((excess[:, None] - (gain.cumsum(1) - gain)).clamp_min(0), gain)
    return (used / weight.abs()[order]).sum(1)


@pytest.fixture(scope="module")
def line() -> tuple[Line, Tensor, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    model = Line(torch.randn(49, generator=stream)).eval()
    images = torch.rand(60, 1, 7, 7, generator=stream)
    labels = model(images).argmax(1)
    sign = torch.where(labels == 1, 1.0, -1.0)
    excess = model(images)[:, 1].abs().detach()
    nearest = torch.stack([least_change(image[None], s * model.weight.detach(), e[None])[0]
                           for image, s, e in zip(images, sign, excess, strict=True)])  # fmt: skip
    return model, images, labels, nearest


@pytest.mark.parametrize("name", L1_ATTACKS)
def test_what_falls_is_what_can_fall(name: str, line: tuple[Line, Tensor, Tensor, Tensor]) -> None:
    model, images, labels, nearest = line
    eps = nearest.median().item()
    keywords = {key: value for key, value in ALL_ATTACKS[name].grey.items() if key not in ("eps", "norm")}
    made = ALL_ATTACKS[name].function(
        model, images, labels, **keywords | QUICK.get(name, {}) | {"eps": eps, "norm": "l1"},
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert (made >= 0).all() and (made <= 1).all()
    assert (length(made - images, "l1") <= eps * (1 + 1e-4)).all()
    fell = model(made).argmax(1) != labels
    assert not (fell & (nearest > eps * (1 + 1e-3))).any()
    found = fell[nearest < 0.98 * eps].float().mean().item()
    assert found >= {"fgsm": 0.3, "square": 0.3, "pgd": 0.8, "eotpgd": 0.8}.get(name, 0.95)


def test_an_attack_without_l1_says_what_it_supports() -> None:
    from grfd.evaluation.request import Request

    with pytest.raises(UserError, match="attack deepfool does not support L1, but L∞ and L2"):
        Request(attacks=("deepfool",), norm="l1")
