"""Intervals and p-values by image: known coverage, and a seed that is copied adds no evidence."""

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from grfd.evaluation.intervals import accuracy_interval, bootstrap, sign_flip_p_value, wilson
from grfd.evaluation.paired import Paired


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("images", [50, 200, 1000])
def test_wilson_covers_the_true_share(share: float, images: int) -> None:
    """Exactly, by the probability of each number of successes."""
    right = np.arange(images + 1)
    covered = [low <= share <= high for low, high in (wilson(each, images) for each in right)]
    assert scipy.stats.binom.pmf(right, images, share)[covered].sum() > 0.92


def test_wilson_equals_scipy() -> None:
    for right, images in ((0, 10), (3, 10), (10, 10), (977, 1000)):
        other = scipy.stats.binomtest(right, images).proportion_ci(0.95, "wilson")
        assert wilson(right, images) == pytest.approx((other.low, other.high))


def test_the_bootstrap_covers_the_true_share() -> None:
    """Images differ in difficulty, and three seeds share it, so that an interval over 3n answers would be too short."""
    stream = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        easy = stream.random(200) < 0.7
        seeds = [np.where(stream.random(200) < 0.1, stream.random(200) < 0.5, easy) for _ in range(3)]
        low, high = bootstrap(seeds)
        covered += low <= 0.9 * 0.7 + 0.1 * 0.5 <= high
    assert 0.92 * 300 <= covered <= 0.98 * 300


def columns(seed: int, images: int = 300) -> np.ndarray:
    return (np.random.default_rng(seed).random(images) < 0.8).astype(int)


def test_copies_of_a_seed_change_nothing() -> None:
    one, other = columns(0), columns(1)
    assert accuracy_interval([one] * 3) == pytest.approx(accuracy_interval([one]), abs=0.005)  # another method
    assert bootstrap([one - other] * 3) == bootstrap([one - other])
    assert sign_flip_p_value([one - other] * 3) == pytest.approx(sign_flip_p_value([one - other]))


def test_a_seed_may_have_fewer_images() -> None:
    low, high = accuracy_interval([columns(0, 1000), columns(1, 100)])
    assert low < (columns(0, 1000).mean() + columns(1, 100).mean()) / 2 < high
    assert high - low > np.subtract(*reversed(accuracy_interval([columns(0, 1000)])))


def test_where_all_images_are_alike_there_still_is_an_interval() -> None:
    low, high = accuracy_interval([np.ones(100), np.ones(100)])
    assert low == pytest.approx(wilson(100, 100)[0]) and high == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=80))
def test_for_one_seed_the_p_value_is_mcnemar_s(differences: list[int]) -> None:
    ours, theirs = differences.count(1), differences.count(-1)
    expected = scipy.stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    assert sign_flip_p_value([np.array(differences)]) == pytest.approx(expected, abs=1e-9)
    assert sign_flip_p_value([-np.array(differences)]) == pytest.approx(expected, abs=1e-9)


def test_for_several_seeds_the_p_value_is_that_of_all_sign_flips() -> None:
    """By trying all 2^12 signs."""
    stream = np.random.default_rng(3)
    seeds = [stream.integers(-1, 2, 12) for _ in range(3)]
    sums = np.sum(seeds, axis=0)
    signs = 1 - 2 * ((np.arange(2**12)[:, None] >> np.arange(12)) & 1)
    expected = (np.abs(signs @ sums) >= abs(sums.sum())).mean()
    assert sign_flip_p_value(seeds) == pytest.approx(expected)


def test_seeds_that_agree_are_less_evidence_than_as_many_images() -> None:
    difference = columns(0) - columns(1)
    together = Paired([difference] * 3)
    apart = Paired([np.concatenate([difference] * 3)])
    assert together.difference == pytest.approx(apart.difference)
    assert together.p_value >= apart.p_value
    assert np.subtract(*together.interval) < np.subtract(*apart.interval)  # low less high: the longer interval
    assert (together.ours_alone, together.theirs_alone) == (apart.ours_alone, apart.theirs_alone)
