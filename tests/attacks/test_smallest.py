"""Searches for the smallest perturbation: closed forms, ε = ∞, any scale of logits, and the L1 ball."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS, fmn
from grfd.attacks._fab import _random_start
from grfd.attacks.shortest import plane_distance
from grfd.attacks.threat import Batch, onto_l1_ball
from grfd.errors import UserError

Model = Callable[[Tensor], Tensor]


def _onto_ball(rows: Tensor, radius: Tensor) -> Tensor:
    """The projection without a box."""
    return onto_l1_ball(rows, torch.full_like(rows, torch.inf), radius)


MINIMAL = [name for name, entry in ALL_ATTACKS.items() if entry.minimal and name != "hopskipjump"]
NEW = [("ddn", "l2"), *((name, norm) for name in ("fmn", "deepfool") for norm in ("linf", "l2")), ("fmn", "l1")]
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}

SETTINGS: dict[str, dict[str, Any]] = {
    # Cross-entropy looks at the nearest class alone where it is by far the likeliest of the wrong ones.
    "ddn": {"steps": 300, "spread": 1000.0},
    "fmn": {"steps": 300},
    "deepfool": {"overshoot": 0.005},
    "cw": {"steps": 200, "search_steps": 4, "initial_c": 1.0, "learning_rate": 0.01},
    "fab": {"steps": 10},
    "fab_t": {"steps": 10},
}


def sizes(change: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(change.flatten(1), ord={"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)


def run(name: str, model: Model, images: Tensor, labels: Tensor, norm: str, **keywords: Any) -> Tensor:
    named = {} if name in ("ddn", "cw") else {"norm": norm}
    return ALL_ATTACKS[name].function(model, images, labels, **{"eps": math.inf} | SETTINGS[name] | named | keywords)


def linear(classes: int, norm: str, apart: bool = True) -> tuple[Model, Tensor, Tensor, Tensor]:
    """(model, images [30, 1, 4, 5], labels, smallest distances), far from the box, in float64.

    `apart`: each class has pixels of its own, and all boundaries are equally steep. Then the likeliest wrong class is
    the nearest one.
    """
    generator = torch.Generator().manual_seed(classes)
    weights = torch.randn(classes, 20, dtype=torch.float64, generator=generator)
    if apart:
        weights = weights * (torch.arange(20) % classes == torch.arange(classes)[:, None])
        weights = weights / torch.linalg.vector_norm(weights, ord=DUAL[norm], dim=1, keepdim=True)
    images = 0.45 + 0.1 * torch.rand(30, 1, 4, 5, dtype=torch.float64, generator=generator)
    middle = weights @ torch.full((20,), 0.5, dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return x.flatten(1) @ weights.T - middle

    logits = model(images)
    labels = logits.argmax(1)
    leads = logits.gather(1, labels[:, None]) - logits
    slopes = torch.linalg.vector_norm(weights[labels][:, None] - weights[None], ord=DUAL[norm], dim=2)
    distances = (leads / slopes).scatter(1, labels[:, None], torch.inf).amin(1)
    return model, images, labels, distances


@pytest.mark.parametrize(("name", "norm"), NEW)
@pytest.mark.parametrize("classes", [2, 5])
def test_the_smallest_distance_to_a_plane_is_found(name: str, norm: str, classes: int) -> None:
    """Within one per cent. DeepFool goes half a per cent beyond the plane here, by its overshoot."""
    model, images, labels, distances = linear(classes, norm)
    result = run(name, model, images, labels, norm)
    ratio = sizes(result - images, norm) / distances
    assert bool((model(result).argmax(1) != labels).all())
    assert bool((ratio >= 1 - 1e-9).all()) and bool((ratio <= 1.01).all()), ratio.max()


@pytest.mark.parametrize(("name", "norm"), NEW)
def test_where_the_likeliest_class_need_not_be_the_nearest(name: str, norm: str) -> None:
    """DeepFool compares all planes. DDN and FMN climb towards the likeliest class, so a few examples go too far."""
    model, images, labels, distances = linear(5, norm, apart=False)
    ratio = sizes(run(name, model, images, labels, norm) - images, norm) / distances
    assert bool((ratio >= 1 - 1e-9).all()) and ratio.median() <= 1.006
    assert (ratio <= 1.01).double().mean() >= (1.0 if name == "deepfool" else 0.8)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_goes_beyond_a_plane_by_its_overshoot(norm: str) -> None:
    model, images, labels, distances = linear(2, norm)
    result = run("deepfool", model, images, labels, norm, overshoot=0.02, steps=1)
    assert torch.allclose(sizes(result - images, norm), 1.02 * distances, rtol=1e-9)


@pytest.mark.parametrize("name", MINIMAL)
def test_an_infinite_epsilon_returns_the_smallest_perturbation_of_every_image(
    name: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    labels = labels.clone()
    labels[0] = (labels[0] + 1) % 10
    norm = "linf" if ALL_ATTACKS[name].norms else "l2"
    free = run(name, net, images, labels, norm)
    lengths = sizes(free - images, norm)
    assert torch.equal(free[0], images[0]) and bool((net(free).argmax(1) != labels).all())
    assert bool((lengths[1:] > 0).all()) and bool(((free >= 0) & (free <= 1)).all())
    # Nothing ends early at ε = ∞: an active set changes nothing, and a finite ε returns the same where it is enough.
    torch.testing.assert_close(run(name, net, images, labels, norm, active_set=False), free)
    eps = lengths.sort().values[11:13].mean().item()
    bound = run(name, net, images, labels, norm, active_set=False, eps=eps)
    near = lengths <= eps
    torch.testing.assert_close(bound[near], free[near])
    assert torch.equal(bound[~near], images[~near])
    early = run(name, net, images, labels, norm, eps=eps)
    assert torch.equal((early != images).flatten(1).any(1)[1:], near[1:])


@pytest.mark.parametrize("name", ["fab", "fab_t"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_restarts_of_fab_at_an_infinite_epsilon_never_lose(
    name: str, norm: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    one, three = (
        sizes(run(name, net, images, labels, norm, steps=2, restarts=count, generator=torch.Generator()) - images, norm)
        for count in (1, 3)
    )
    assert bool((three <= one).all())
    # The small net is almost linear, so in L∞ the first search has found the smallest perturbation already.
    assert norm == "linf" or bool((three < one).any())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_restart_at_an_infinite_epsilon_begins_within_half_the_shortest_perturbation(norm: str) -> None:
    images, labels = torch.full((2, 1, 3, 3), 0.5), torch.zeros(2, dtype=torch.long)
    batch = Batch(images, labels, 0 * images, 0 * images + 1, math.inf, norm, torch.float32)  # type: ignore[arg-type]
    start = _random_start(batch, torch.tensor([0.2, math.inf]), torch.Generator().manual_seed(0))
    lengths = sizes(start - images, norm)
    assert 0 < lengths[0] <= 0.1 and 0 < lengths[1] <= 1
    assert bool(((start >= 0) & (start <= 1)).all())


@pytest.mark.parametrize("name", MINIMAL)
def test_nothing_can_be_stretched_to_an_infinite_length(name: str, victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match="expected a finite eps"):
        ALL_ATTACKS[name].function(*victim, eps=math.inf, stretch=True)


@pytest.mark.parametrize(("name", "norm"), NEW)
@pytest.mark.parametrize("scale", [1e-6, 2.0**-40, 1e6])
def test_the_scale_of_the_logits_does_not_matter(
    name: str, norm: str, scale: float, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    keywords = {"overshoot": 0.02} if name == "deepfool" else {"steps": 40}
    plain, scaled = (run(name, model, images, labels, norm, **keywords) for model in (net, lambda x: net(x) * scale))
    assert bool((net(plain).argmax(1) != labels).all()) and bool((net(scaled).argmax(1) != labels).all())
    lengths = [sizes(each - images, norm) for each in (plain, scaled)]
    torch.testing.assert_close(lengths[0], lengths[1], rtol=0.02, atol=0)


@pytest.mark.parametrize(("name", "norm"), NEW)
@pytest.mark.parametrize("classes", [2, 1000])
def test_two_to_a_thousand_classes(name: str, norm: str, classes: int, small_net: Callable[..., nn.Module]) -> None:
    net = small_net(classes)
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = net(images).argmax(1)
    assert bool((net(run(name, net, images, labels, norm)).argmax(1) != labels).all())


@pytest.mark.parametrize(("name", "norm"), NEW)
def test_a_flat_model_leaves_the_image_as_it_is(name: str, norm: str) -> None:
    """No gradient, and a single class that is −∞: nothing can be found, and nothing overflows."""
    images = torch.rand(3, 1, 4, 4)
    answer = torch.tensor([1.0, 0.0, -torch.inf])
    result = run(name, lambda x: answer + 0 * x.flatten(1)[:, :3], images, torch.zeros(3, dtype=torch.long), norm)
    assert torch.equal(result, images)


@pytest.mark.parametrize(("name", "norm"), NEW)
def test_a_class_that_is_minus_infinity_is_ignored(
    name: str, norm: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim

    def model(x: Tensor) -> Tensor:
        return torch.cat([net(x), torch.full((len(x), 1), -torch.inf)], 1)

    keywords = {"targets": 10} if name == "deepfool" else {}
    assert bool((net(run(name, model, images, labels, norm, **keywords)).argmax(1) != labels).all())


@pytest.mark.parametrize(("name", "norm"), NEW)
def test_perturbations_that_the_box_shortens_still_cross_the_boundary(name: str, norm: str) -> None:
    """Most pixels lie at the wall to which the gradient points, so a step is far shorter than it was meant to be."""
    generator = torch.Generator().manual_seed(0)
    weights = 0.5 + torch.rand(64, dtype=torch.float64, generator=generator)
    images = torch.ones(12, 1, 8, 8, dtype=torch.float64)
    images[:, :, :2] = 0.1 * torch.rand(12, 1, 2, 8, dtype=torch.float64, generator=generator)

    def model(x: Tensor) -> Tensor:
        total = x.flatten(1) @ weights
        return torch.stack([torch.full_like(total, (weights[16:].sum() + 8.0).item()), total], 1)

    result = run(name, model, images, torch.zeros(12, dtype=torch.long), norm)
    assert bool((model(result).argmax(1) == 1).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_fmn_in_l1_stays_inside_ball_and_box(dtype: torch.dtype, small_net: Callable[..., nn.Module]) -> None:
    net = small_net(dtype=dtype)
    images = (torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 0.5).clamp(0, 1).to(dtype)
    labels = net(images).argmax(1)
    result = fmn(net, images, labels, eps=0.6, norm="l1")
    lengths = sizes(result.double() - images.double(), "l1")
    fooled = net(result).argmax(1) != labels
    assert result.dtype == dtype and bool(((result >= 0) & (result <= 1)).all())
    assert torch.equal(fooled, lengths > 0) and 4 <= fooled.sum() <= 20
    assert bool((lengths <= 0.6 + 64 * torch.finfo(dtype).eps).all())


def test_fmn_in_l1_is_stretched_to_epsilon(victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, _ = victim
    images = 0.4 + 0.2 * images  # far from the box, which would shorten a perturbation
    labels = net(images).argmax(1)
    result = fmn(net, images, labels, eps=0.6, steps=40, norm="l1", active_set=False, stretch=True)
    assert torch.allclose(sizes(result - images, "l1"), torch.tensor(0.6), rtol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_the_projection_onto_an_l1_ball_is_the_quadratic_program(seed: int) -> None:
    generator = np.random.default_rng(seed)
    row = generator.normal(size=(1, 9))
    radius = generator.uniform(0.1, 0.9) * np.abs(row).sum()
    # Karush, Kuhn, Tucker: all magnitudes are lowered by one multiplier, down to zero.
    multiplier = brentq(lambda m: np.maximum(np.abs(row) - m, 0).sum() - radius, 0, np.abs(row).max(), xtol=1e-15)
    expected = np.sign(row) * np.maximum(np.abs(row) - multiplier, 0)
    projected = _onto_ball(torch.from_numpy(row), torch.tensor([radius], dtype=torch.float64))
    np.testing.assert_allclose(projected.numpy(), expected, atol=1e-12)


def test_l1_balls_of_different_radii() -> None:
    rows = torch.tensor([[3.0, -1.0, 0.0], [3.0, -1.0, 0.0], [3.0, -1.0, 0.0], [3.0, -1.0, 0.0]])
    projected = _onto_ball(rows, torch.tensor([0.0, 2.0, 3.0, torch.inf]))
    expected = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.5, -0.5, 0.0], [3.0, -1.0, 0.0]])
    torch.testing.assert_close(projected, expected)


def test_the_distance_to_a_plane_survives_tiny_and_zero_gradients() -> None:
    gradient = torch.tensor([[3e-30, 4e-30], [3.0, 4.0], [0.0, 0.0]]).view(3, 1, 1, 2)
    distances = plane_distance(torch.tensor([-1e-29, 10.0, 0.0]), gradient, 2)
    assert distances[:2].tolist() == pytest.approx([2.0, 2.0])
    assert distances[2].isfinite() and distances[2] > 1e37
