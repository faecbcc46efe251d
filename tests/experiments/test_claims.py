"""The table of claims: verdicts follow from intervals, and numbers from records that can be counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grfd.evaluation.results import Row
from grfd.evaluation.spread import Grid
from grfd.experiments.claims import interval_of, section, verdict_on
from grfd.experiments.claims.listed import CLAIMS, Claim
from grfd.experiments.claims.measure import above_best, above_none, average, clean, kept
from grfd.experiments.variant_records import VariantRecords

RESULTS = Path(__file__).parents[2] / "results"
GAIN = Claim("a gain", "4.5", 30.0, "long", lambda records, protocol: None)
SIGN = replace(GAIN, paper=None)
COST = replace(GAIN, paper=-3.62, kind="cost")
LOSS = replace(SIGN, kind="loss")


@pytest.mark.parametrize(
    ("interval", "means", "claim", "expected"),
    [
        ((28.0, 32.0), [30.0], GAIN, "reproduced"),
        ((31.0, 35.0), [33.0], GAIN, "exceeded"),
        ((2.0, 20.0), [11.0], GAIN, "not reached"),
        ((-2.0, 20.0), [9.0], GAIN, "no difference shown"),
        ((-9.0, -2.0), [-6.0], GAIN, "refuted"),
        ((-9.0, -2.0), [-14.0, 2.0], GAIN, "no difference shown"),
        ((0.1, 4.0), [2.0], SIGN, "sign confirmed"),
        ((-1.0, 4.0), [2.0], SIGN, "no difference shown"),
        ((-4.0, -1.0), [-2.0], SIGN, "refuted"),
        ((-4.0, -1.0), [-2.0], LOSS, "sign confirmed"),
        ((1.0, 4.0), [2.0], LOSS, "refuted"),
        ((-4.0, -2.0), [-3.0], COST, "reproduced"),
        ((-9.0, -5.0), [-7.0], COST, "not reached"),
        ((-2.0, 1.0), [-0.5], COST, "exceeded"),
        ((10.0, 20.0), [15.0], replace(GAIN, paper=93.69, kind="share"), "not reached"),
    ],
)
def test_a_verdict_follows_from_interval_and_seeds(
    interval: tuple[float, float], means: list[float], claim: Claim, expected: str
) -> None:
    assert verdict_on(interval, means, claim) == expected


def _cells(protocol: str, model: str, right: dict[str, list[int]]) -> dict[str, Row]:
    """Rows of a model: attack → whether each image is right."""
    arrays = {name: np.array(each, dtype=bool) for name, each in right.items()}
    return {
        name: Row(model, protocol, name, len(each), float(each.mean()), right=each) for name, each in arrays.items()
    }


ALL_RIGHT = {name: [1, 1, 1, 1] for name in ("none", "fgsm", "pgd", "aa", "eotpgd", "vmifgsm")}


@pytest.fixture
def records() -> VariantRecords:
    """GRFD is right on half of the images under one attack of five; the others always."""
    lines: Grid = {
        ("whitebox", "grfd"): _cells("whitebox", "grfd", ALL_RIGHT | {"pgd": [1, 0, 1, 0]}),
        ("whitebox", "standard"): _cells("whitebox", "standard", ALL_RIGHT | {"aa": [1, 1, 0, 0]}),
        ("whitebox", "bit-depth"): _cells("whitebox", "bit-depth", {"none": [1] * 4, "fgsm": [1] * 4}),
    }
    return VariantRecords([RESULTS / "demo"], [lines], [])


def test_numbers_are_means_over_attacks_image_by_image(records: VariantRecords) -> None:
    found = kept(records, "whitebox")
    assert found is not None and np.allclose(found.columns, [[1.0, 0.8, 1.0, 0.8]])
    gain = above_none(records, "whitebox", column=average)
    assert gain is not None and np.allclose(gain.columns, [[0.0, -0.2, 0.2, 0.0]])
    low, high = interval_of(gain.columns)
    assert -20 <= low <= 0 <= high <= 20
    same = above_none(records, "whitebox", column=clean)
    assert same is not None and np.allclose(same.columns, [[0.0] * 4])


def test_what_was_not_measured_has_no_number(records: VariantRecords) -> None:
    assert kept(records, "transfer") is None
    assert above_best(records, "whitebox", column=average) is None  # the only rival met one attack of five


def test_every_claim_is_on_the_page_with_a_number() -> None:
    text = "\n".join(section(RESULTS))
    for claim in CLAIMS:
        line = next(line for line in text.splitlines() if line.startswith(f"| {claim.words} |"))
        assert "[" in line and ("**" in line) == claim.judged
        assert not claim.clean or line.split(" | ")[3] == line.split(" | ")[5] == "–"


def test_a_line_counts_the_seeds_that_have_both_models() -> None:
    """Only one seed of Table 3 has GRFD."""
    text = "\n".join(section(RESULTS))
    (line,) = [line for line in text.splitlines() if line.startswith("| On MNIST, GRFD keeps more than each rival |")]
    assert "one seed" in line and "B-DR" not in line
