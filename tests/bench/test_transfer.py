"""Examples that are meant for other models: on trained networks, beside TorchAttacks'."""

import warnings

import pytest

from grfd.bench import transfer as transfer_bench
from grfd.bench.libraries import Budget
from grfd.bench.transfer import (
    AS_PROTOCOL,
    FIRST_SUCCESS,
    LARGEST_MARGIN,
    LAST_ITERATE,
    TORCHATTACKS_ITSELF,
    Transferred,
    mean_shares,
    measure_transfer,
    variants_of,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torchattacks = pytest.importorskip("torchattacks")

PAIRS = (("LeNet5", "another LeNet5"), ("another LeNet5", "residual net"), ("residual net", "LeNet5"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Transferred]:
    """200 images, networks trained on 5,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer_bench, "_TRAINING_IMAGES", 5_000)
        short = {
            name: budget if name == "fgsm" else Budget(0.15, step_size=0.05, steps=12)
            for name, budget in transfer_bench.TRANSFER_BUDGETS.items()
        }
        patch.setattr(transfer_bench, "TRANSFER_BUDGETS", short)
        return measure_transfer(
            tmp_path_factory.mktemp("networks"), ("fgsm", "pgd", "eotpgd", "vmifgsm", "mifgsm"), 200
        )


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "eotpgd", "vmifgsm", "mifgsm"])
def test_ours_transfer_as_torchattacks_do(measured: list[Transferred], attack: str, pair: tuple[str, str]) -> None:
    shares = {
        each.variant: each.robust for each in measured if (each.attack, each.source, each.victim) == (attack, *pair)
    }
    ours = shares[LARGEST_MARGIN] if LARGEST_MARGIN in shares else shares[AS_PROTOCOL]
    assert 0 < shares[TORCHATTACKS_ITSELF] < 0.95
    assert ours <= shares[TORCHATTACKS_ITSELF] + 0.02


def test_examples_that_leave_at_their_first_success_transfer_badly(
    measured: list[Transferred],
) -> None:
    shares = mean_shares(measured)
    assert all(
        shares[attack][FIRST_SUCCESS] > shares[attack][LARGEST_MARGIN] + 3
        for attack in ("pgd", "eotpgd", "vmifgsm", "mifgsm")
    )
    assert all(
        abs(shares[attack][LAST_ITERATE] - shares[attack][LARGEST_MARGIN]) < 3
        for attack in ("pgd", "eotpgd", "vmifgsm", "mifgsm")
    )


def test_every_attack_of_the_bench_has_what_it_hands_on() -> None:
    for attack in transfer_bench.TRANSFER_BUDGETS:
        assert set(variants_of(attack)) in ({FIRST_SUCCESS, LAST_ITERATE, LARGEST_MARGIN}, {FIRST_SUCCESS, AS_PROTOCOL})
