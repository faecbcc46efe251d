"""Examples that are meant for other models: on trained networks, beside TorchAttacks'."""

import warnings

import pytest

from grfd.bench import transfer as transfer_bench
from grfd.bench.transfer import BEST, FIRST, LAST, THEIRS, WHOLE, bench, means, variants_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torchattacks = pytest.importorskip("torchattacks")

PAIRS = (("LeNet5", "another LeNet5"), ("another LeNet5", "residual net"), ("residual net", "LeNet5"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[transfer_bench.Transferred]:
    """200 images, networks trained on 5,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer_bench, "SHOWN", 5_000)
        short = {
            name: budget if name == "fgsm" else transfer_bench.Budget(0.15, step_size=0.05, steps=12)
            for name, budget in transfer_bench.BUDGETS.items()
        }
        patch.setattr(transfer_bench, "BUDGETS", short)
        return bench(tmp_path_factory.mktemp("networks"), ("fgsm", "pgd", "eotpgd", "vmifgsm", "mifgsm"), 200)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "eotpgd", "vmifgsm", "mifgsm"])
def test_ours_transfer_as_torchattacks_do(
    measured: list[transfer_bench.Transferred], attack: str, pair: tuple[str, str]
) -> None:
    found = {
        each.variant: each.robust for each in measured if (each.attack, each.source, each.victim) == (attack, *pair)
    }
    ours = found[BEST] if BEST in found else found[WHOLE]
    assert 0 < found[THEIRS] < 0.95
    assert ours <= found[THEIRS] + 0.02


def test_examples_that_leave_at_their_first_success_transfer_badly(
    measured: list[transfer_bench.Transferred],
) -> None:
    found = means(measured)
    assert all(found[attack][FIRST] > found[attack][BEST] + 3 for attack in ("pgd", "eotpgd", "vmifgsm", "mifgsm"))
    assert all(abs(found[attack][LAST] - found[attack][BEST]) < 3 for attack in ("pgd", "eotpgd", "vmifgsm", "mifgsm"))


def test_every_attack_of_the_bench_has_what_it_hands_on() -> None:
    for attack in transfer_bench.BUDGETS:
        assert set(variants_of(attack)) in ({FIRST, LAST, BEST}, {FIRST, WHOLE})
