"""Randomized smoothing: its bound beside scipy's, its radius beside the closed form for a linear classifier."""

import math

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from grfd.defenses.smoothing import ABSTAIN, by_chance, certify, lower_bound, predict, votes

SIGMA = 0.5


def halves(images: Tensor) -> Tensor:
    """Linear, of two classes: class 0 where the first pixel is above 0."""
    first = images.flatten(1)[:, :1]
    return torch.cat([first, -first], 1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("won", "n"), [(0, 10), (7, 10), (990, 1000), (1000, 1000)])
def test_the_bound_is_clopper_and_pearson_s(won: int, n: int) -> None:
    interval = binomtest(won, n, alternative="greater").proportion_ci(0.999, method="exact")
    assert lower_bound(won, n, 0.001) == pytest.approx(interval.low, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(50, 50), (51, 49), (66, 34), (99, 1), (1, 0), (100, 0)])
def test_chance_is_that_of_the_binomial_test(first: int, second: int) -> None:
    assert by_chance(first, second) == pytest.approx(binomtest(first, first + second, 0.5).pvalue, rel=1e-9)


def test_every_vote_is_counted_once() -> None:
    counts = votes(halves, torch.zeros(1, 2, 2), SIGMA, 2_345, 2)
    assert counts.sum() == 2_345 and abs(int(counts[0]) - 1172) < 120


@pytest.mark.parametrize("distance", [0.1, 0.4, 0.8])
def test_the_radius_of_a_linear_classifier_is_its_distance(distance: float) -> None:
    image = torch.zeros(1, 2, 2)
    image[0, 0, 0] = distance
    label, radius = certify(halves, image, SIGMA, 2, n=20_000)
    assert label == 0
    assert 0.9 * distance - 0.02 < radius <= distance


def test_all_votes_certify_no_more_than_their_number_allows() -> None:
    image = torch.full((1, 2, 2), 100.0)
    for n in (100, 1000):
        _, radius = certify(halves, image, SIGMA, 2, n=n)
        assert radius == pytest.approx(SIGMA * _quantile(0.001 ** (1 / n)), rel=1e-6)


def _quantile(probability: float) -> float:
    return math.sqrt(2) * torch.erfinv(torch.tensor(2 * probability - 1, dtype=torch.float64)).item()


def test_it_abstains_where_it_cannot_tell() -> None:
    middle, clear = torch.zeros(1, 2, 2), torch.full((1, 2, 2), -1.0)
    assert predict(halves, middle, SIGMA, 2) == ABSTAIN
    assert certify(halves, middle, SIGMA, 2) == (ABSTAIN, 0.0)
    assert predict(halves, clear, SIGMA, 2) == 1
