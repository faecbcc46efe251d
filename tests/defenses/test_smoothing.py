"""Randomized smoothing: its bound beside scipy's, its radius beside the closed form for a linear classifier."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from grfd.defenses.smoothing import ABSTAIN, NoisyClassifier, by_chance, certify, lower_bound, predict_class, votes
from grfd.errors import UserError

SIGMA = 0.5


def halves(images: Tensor) -> Tensor:
    """Linear, of two classes: class 0 where the first pixel is above 0."""
    first = images.flatten(1)[:, :1]
    return torch.cat([first, -first], 1)


NOISY = NoisyClassifier(halves, SIGMA, classes=2)


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
    counts = votes(NOISY, torch.zeros(1, 2, 2), 2_345)
    assert counts.sum() == 2_345 and abs(int(counts[0]) - 1172) < 120


@pytest.mark.parametrize("distance", [0.1, 0.4, 0.8])
def test_the_radius_of_a_linear_classifier_is_its_distance(distance: float) -> None:
    image = torch.zeros(1, 2, 2)
    image[0, 0, 0] = distance
    label, radius = certify(NOISY, image, n=20_000)
    assert label == 0
    assert 0.9 * distance - 0.02 < radius <= distance


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"n": 9}, r"n = 9 samples cannot certify anything at alpha = 0.001, even if all agree: expected at least 10"),
        ({"n": 100, "alpha": 1e-40}, r"n = 100 samples cannot certify .* at alpha = 1e-40.*: expected at least 133"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": 10.0}, "n must be a whole number, got 10.0"),
        ({"n0": 0}, "n0 must be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha must be above 0, got 0.0"),
        ({"alpha": 1.0}, "alpha must be below 1, got 1.0"),
        ({"alpha": math.nan}, "alpha must be a finite number, got nan"),
        ({"sigma": -1.0}, "sigma must be at least 1e-06, got -1.0"),
        ({"sigma": math.inf}, "sigma must be a finite number, got inf"),
        ({"classes": 1}, "classes must be at least 2, got 1"),
        ({"classes": 3}, r"the classifier answers with \(100, 2\): expected logits of \(100, 3\)"),
        ({"image": torch.zeros(2, 2)}, r"image must be a finite float tensor \[channel, height, width\], got \(2, 2\)"),
        ({"image": torch.full((1, 2, 2), math.nan)}, "image must be a finite float tensor"),
        ({"classifier": lambda images: halves(images) * math.nan}, "the classifier answers with NaN"),
    ],
)
def test_arguments_that_can_certify_nothing_are_one_line(changes: dict[str, Any], line: str) -> None:
    noisy = replace(NOISY, **{name: value for name, value in changes.items() if name in vars(NOISY)})
    others = {name: value for name, value in changes.items() if name not in vars(NOISY)}
    arguments = {"image": torch.zeros(1, 2, 2)} | others
    with pytest.raises(UserError, match=f"^{line}"):
        certify(noisy, **arguments)
    if "n0" not in changes and "n" not in changes:
        with pytest.raises(UserError, match=f"^{line}"):
            predict_class(noisy, **arguments)


@pytest.mark.parametrize("alpha", [0.5, 0.25, 0.1, 0.001, 2**-10, 1e-9])
def test_the_number_of_samples_that_is_named_suffices(alpha: float) -> None:
    clear = torch.full((1, 2, 2), 100.0)
    for function, wins in ((certify, lambda answer: answer[1] > 0), (predict_class, lambda answer: answer == 0)):
        with pytest.raises(UserError, match="samples cannot") as caught:
            function(NOISY, clear, n=1, alpha=alpha)
        needed = int(str(caught.value).split()[-2])
        assert wins(function(NOISY, clear, n=needed, alpha=alpha))
        with pytest.raises(UserError, match=f"expected at least {needed} samples"):
            function(NOISY, clear, n=needed - 1, alpha=alpha)


def test_all_votes_certify_no_more_than_their_number_allows() -> None:
    image = torch.full((1, 2, 2), 100.0)
    for n in (100, 1000):
        _, radius = certify(NOISY, image, n=n)
        assert radius == pytest.approx(SIGMA * _quantile(0.001 ** (1 / n)), rel=1e-6)


def _quantile(probability: float) -> float:
    return math.sqrt(2) * torch.erfinv(torch.tensor(2 * probability - 1, dtype=torch.float64)).item()


def test_it_abstains_where_it_cannot_tell() -> None:
    middle, clear = torch.zeros(1, 2, 2), torch.full((1, 2, 2), -1.0)
    assert predict_class(NOISY, middle) == ABSTAIN
    assert certify(NOISY, middle) == (ABSTAIN, 0.0)
    assert predict_class(NOISY, clear) == 1
