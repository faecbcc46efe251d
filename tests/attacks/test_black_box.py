"""HopSkipJump and SimBA: exact distances on linear models, honest counts of queries, and what they may see."""

import math

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import hopskipjump, simba, square
from grfd.attacks._hopskipjump import HopSkipJumpSettings, hopskipjump_rounds
from grfd.attacks._simba import SimbaSettings, cosine_directions, simba_rounds
from grfd.attacks.budgets import Ball
from grfd.attacks.inputs import attacking
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


def test_simba_moves_one_pixel_at_a_time_and_pays_for_each_sign(weight: Tensor, images: Tensor) -> None:
    model = Linear(torch.stack([weight[0], -weight[0]]))
    labels = model(images).argmax(1)
    made = simba(model, images, labels, eps=10.0, n_queries=21, step=0.05, active_set=False,
                 generator=torch.Generator().manual_seed(0))  # fmt: skip
    change = (made - images).flatten(1)
    downhill = weight[0].sign() * (2 * labels[:, None] - 1)
    moved = change.abs() > 1e-6
    torch.testing.assert_close(change, 0.05 * downhill * moved, atol=1e-6, rtol=0)
    # +step is tried first: it costs one query where it helps, and −step costs two
    costs = torch.where(downhill > 0, 1, 2).mul(moved).sum(1)
    assert ((costs == 20) | (costs == 19)).all() and (costs == 20).any()


def test_simba_asks_nothing_outside_the_ball(weight: Tensor, images: Tensor) -> None:
    model = Linear(torch.stack([weight[0], -weight[0]]))
    labels = model(images).argmax(1)
    model.count = 0
    made = simba(model, images, labels, eps=0.11, n_queries=5000, step=0.1, active_set=False,
                 generator=torch.Generator().manual_seed(0))  # fmt: skip
    assert ((made - images).flatten(1).abs() > 1e-6).sum(1).eq(1).all()
    # the clean image, the first direction, and the way back along that one in the next turn
    assert model.count <= 5 * len(images)


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
    colours = images.repeat(1, 3, 1, 1)
    for share, count in ((0.5, 3 * 9), (1.0, 3 * 36)):
        waves = cosine_directions(colours, share)
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


@pytest.mark.parametrize("attack", ["simba", "hopskipjump"])
def test_the_queries_of_the_curve_are_the_images_classified(weight: Tensor, images: Tensor, attack: str) -> None:
    model = Linear(weight).eval()
    labels = model(images).argmax(1)
    eps = nearest(images, weight, labels, 2).median().item() * 1.2
    model.count = 0
    stream = torch.Generator().manual_seed(0)
    with attacking(model, images, labels, eps, (0.0, 1.0), "l2") as (checked, batch):
        rounds = 0
        for spent, *_ in SEARCH_ROUNDS[attack](checked, batch, stream):
            assert spent.sum() == model.count and spent.max() <= 700
            rounds += 1
    assert rounds > 3 and len(spent.unique()) > 1


SEARCH_ROUNDS = {
    "simba": lambda model, batch, stream: simba_rounds(
        model, batch, SimbaSettings(700, 0.05, cosine_directions(batch.images, 1.0), True, (0.0, 1.0), stream)
    ),
    "hopskipjump": lambda model, batch, stream: hopskipjump_rounds(
        model, batch, HopSkipJumpSettings(700, 100, True, (0.0, 1.0), stream)
    ),
}


def test_a_start_within_epsilon_counts_in_the_curve(weight: Tensor, images: Tensor) -> None:
    model = Linear(weight).eval()
    labels = model(images).argmax(1)
    search = Search("hopskipjump", Ball("l2", 10.0), 40, torch.Generator().manual_seed(0))
    curve = success_over_queries(model, images, labels, search, (1, 2, 40))
    assert curve[0] == 0 < curve[1] < curve[2] == 1  # noise of the second query fools some


def test_every_round_of_hopskipjump_ends_at_the_boundary(weight: Tensor, images: Tensor) -> None:
    model = Linear(weight)
    labels = model(images).argmax(1)
    steps = math.ceil(math.log2(36**1.5))
    # start ≤ 36, two searches for the boundary, 100 draws and 12 halvings pay for exactly one round
    one_round = 36 + 2 * steps + 100 + 12
    distances = []
    for queries in (36 + steps, one_round):
        made = hopskipjump(model, images, labels, eps=math.inf, n_queries=queries,
                           generator=torch.Generator().manual_seed(0))  # fmt: skip
        distances.append(torch.linalg.vector_norm((made - images).flatten(1), dim=1))
        nearer = images + 0.9 * (made - images)  # the search ends within 0.5 % of the way from the start
        assert (model(nearer).argmax(1) == labels).float().mean() >= 0.9
    assert (distances[1] < distances[0] * 0.99).float().mean() > 0.9


def test_other_norms_are_refused(weight: Tensor, images: Tensor) -> None:
    model, labels = Linear(weight), torch.zeros(20).long()
    with pytest.raises(UserError, match="norm='l1'; expected 'linf' or 'l2'"):
        hopskipjump(model, images, labels, eps=1.0, norm="l1")
    for attack, norm in (("simba", "linf"), ("hopskipjump", "l1")):
        with pytest.raises(UserError, match=f"{attack} in a ball of norm='{norm}'; expected"):
            success_over_queries(model, images, labels, Search(attack, Ball(norm, 0.5), 5), (5,))
