"""HopSkipJump and SimBA: exact distances on linear models, honest counts of queries, and what they may see."""

import math

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import hopskipjump, simba, square
from grfd.attacks.budgets import Ball
from grfd.errors import UserError
from grfd.evaluation.queries import SEARCHES, Search, success_over_queries


class Linear(nn.Module):
    """Logits W·(x − ½). Counts the images that it classifies."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.count = 0

    def forward(self, images: Tensor) -> Tensor:
        self.count += len(images)
        return (images - 0.5).flatten(1) @ self.weight.T


class Signs(Linear):
    """Answers with classes only: one-hot logits."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(super().forward(images).argmax(1), 3).float()


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(3, 36, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images() -> Tensor:
    return 0.3 + 0.4 * torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def nearest(images: Tensor, weight: Tensor, labels: Tensor, order: float) -> Tensor:
    logits = (images - 0.5).flatten(1) @ weight.T
    gaps = logits.gather(1, labels[:, None]) - logits
    slopes = torch.linalg.vector_norm(weight[labels][:, None] - weight[None], ord=order, dim=2)
    return (gaps / slopes.clamp_min(1e-9)).scatter(1, labels[:, None], torch.inf).amin(1)


@pytest.mark.parametrize(("norm", "dual", "order"), [("l2", 2, 2), ("linf", 1, math.inf)])
def test_hopskipjump_comes_near_the_exact_distance_by_classes_alone(
    weight: Tensor, images: Tensor, norm: str, dual: float, order: float
) -> None:
    model = Signs(weight)
    labels = model(images).argmax(1)
    made = hopskipjump(model, images, labels, eps=math.inf, n_queries=6000, norm=norm,
                       generator=torch.Generator().manual_seed(0))  # fmt: skip
    distance = torch.linalg.vector_norm((made - images).flatten(1), ord=order, dim=1)
    exact = nearest(images, weight, labels, dual)
    assert (model(made).argmax(1) != labels).all()
    assert (distance >= exact * 0.999).all()
    assert (distance / exact).median() < (1.05 if norm == "l2" else 1.25)


def test_hopskipjump_never_spends_more_than_its_queries(weight: Tensor, images: Tensor) -> None:
    for queries in (1, 20, 150, 700):
        model = Linear(weight)
        labels = model(images).argmax(1)
        model.count = 0
        hopskipjump(model, images, labels, eps=math.inf, n_queries=queries, generator=torch.Generator().manual_seed(0))
        assert model.count <= queries * len(images)


def test_hopskipjump_keeps_the_clean_image_beyond_epsilon(weight: Tensor, images: Tensor) -> None:
    model = Linear(weight)
    labels = model(images).argmax(1)
    exact = nearest(images, weight, labels, 2)
    eps = exact.median().item()
    made = hopskipjump(model, images, labels, eps=eps, n_queries=4000, generator=torch.Generator().manual_seed(0))
    distance = torch.linalg.vector_norm((made - images).flatten(1), dim=1)
    fell = model(made).argmax(1) != labels
    assert (distance <= eps * 1.0001).all() and torch.equal(made[~fell], images[~fell])
    assert 0.3 < fell.float().mean() < 0.7 and (exact[fell] <= eps).all()


class Constant(nn.Module):
    """Answers with one class to everything."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).expand(len(images), 2) + 0 * images.sum((1, 2, 3))[:, None]


def test_an_image_without_a_start_stays_as_it_is(images: Tensor) -> None:
    made = hopskipjump(Constant(), images, torch.zeros(20, dtype=torch.long), eps=math.inf, n_queries=300)
    assert torch.equal(made, images)


def test_simba_moves_one_pixel_at_a_time(weight: Tensor, images: Tensor) -> None:
    model = Linear(weight)
    labels = model(images).argmax(1)
    made = simba(model, images, labels, eps=10.0, n_queries=2 * 10 + 1, step=0.05, active_set=False,
                 generator=torch.Generator().manual_seed(0))  # fmt: skip
    change = (made - images).flatten(1)
    moved = change.abs() > 1e-6
    assert torch.allclose(change[moved].abs(), torch.tensor(0.05), atol=1e-6)
    assert (moved.sum(1) == 10).all()  # a linear model always gains one way or the other
    logits = model(images), model(made)
    before, after = (each.gather(1, labels[:, None]).squeeze(1) - each.logsumexp(1) for each in logits)
    assert (after < before).all()


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_simba_stays_in_the_ball_and_within_its_queries(weight: Tensor, images: Tensor, basis: str) -> None:
    model = Linear(weight)
    labels = model(images).argmax(1)
    model.count = 0
    made = simba(model, images, labels, eps=0.3, n_queries=201, step=0.1, basis=basis,
                 generator=torch.Generator().manual_seed(0))  # fmt: skip
    assert model.count <= 201 * len(images)
    assert (torch.linalg.vector_norm((made - images).flatten(1), dim=1) <= 0.3 + 1e-6).all()
    assert 0 < (model(made).argmax(1) != labels).float().mean() < 1


def test_the_cosine_basis_is_orthonormal(images: Tensor) -> None:
    from grfd.attacks._simba import simba_directions

    colours = images.repeat(1, 3, 1, 1)
    for share, count in ((0.5, 3 * 9), (1.0, 3 * 36)):
        waves = simba_directions(colours, "dct", share)
        assert waves.shape == (count, 3 * 36)
        torch.testing.assert_close(waves @ waves.T, torch.eye(count), atol=1e-5, rtol=0)


@pytest.mark.parametrize("attack", SEARCHES)
def test_success_grows_with_the_queries_and_ends_at_that_of_the_attack(
    weight: Tensor, images: Tensor, attack: str
) -> None:
    model = Linear(weight).eval()
    labels = model(images).argmax(1)
    eps = nearest(images, weight, labels, 2).median().item() * (5 if attack == "simba" else 1.2)
    stream = torch.Generator().manual_seed(0)
    search = Search(attack, Ball("l2", eps), 600, stream)
    counts = (0, 1, 50, 200, 400, 600)
    curve = success_over_queries(model, images, labels, search, counts)
    assert curve == sorted(curve) and curve[0] == 0 < curve[-1]
    function = {"square": square, "simba": simba, "hopskipjump": hopskipjump}[attack]
    keywords = {"norm": "l2"} if attack != "simba" else {}
    made = function(model, images, labels, eps=eps, n_queries=600, **keywords, generator=stream.manual_seed(0))
    assert curve[-1] == pytest.approx((model(made).argmax(1) != labels).float().mean().item())


def test_an_attack_by_gradients_counts_no_queries(weight: Tensor, images: Tensor) -> None:
    with pytest.raises(UserError, match="'pgd' counts no queries: expected one of square, simba, hopskipjump"):
        success_over_queries(Linear(weight), images, torch.zeros(20).long(), Search("pgd", Ball("l2", 1.0), 5), (5,))
