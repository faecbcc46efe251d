"""The losses against hand-computed values, and the verdict at ties, infinities and NaN."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grfd.attacks.losses import LOSSES, climbed, cross_entropy, dlr, is_correct, lead, log_odds, margin, targeted_dlr

LOGITS = torch.tensor([[4.0, 1.0, 3.0, -2.0], [0.0, 1.0, 5.0, 2.0]])
LABELS = torch.tensor([0, 1])


def test_values_by_hand() -> None:
    assert margin(LOGITS, LABELS).tolist() == [-1.0, 4.0]
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-1 / 3, 4 / 4])
    targets = torch.tensor([2, 3])
    assert targeted_dlr(LOGITS, LABELS, targets).tolist() == pytest.approx([-1 / (4 + 0.5), 1 / (5 - 0.5)])
    assert cross_entropy(LOGITS, LABELS).tolist() == pytest.approx((-LOGITS.log_softmax(1))[[0, 1], [0, 1]].tolist())


def test_few_classes() -> None:
    two, three = LOGITS[:, :2], LOGITS[:, :3]
    other = torch.tensor([1, 0])
    assert torch.equal(dlr(two, LABELS), margin(two, LABELS))
    assert torch.equal(targeted_dlr(two, LABELS, other), margin(two, LABELS))
    assert targeted_dlr(three, LABELS, other).tolist() == pytest.approx([-3 / (4 - 1), -1 / (5 - 0)])
    for loss in (dlr, margin, log_odds, lead):
        assert loss(LOGITS[:, :1], torch.zeros(2, dtype=torch.long)).shape == (2,)


def test_dlr_ignores_shift_and_scale() -> None:
    torch.testing.assert_close(dlr(30 * LOGITS + 7, LABELS), dlr(LOGITS, LABELS))


@pytest.mark.parametrize("loss", LOSSES)
def test_climbed_factors_the_gradient(loss: str) -> None:
    logits = LOGITS.double().requires_grad_()
    (expected,) = torch.autograd.grad(LOSSES[loss](logits, LABELS).sum(), logits)
    values, log_scale = climbed(loss, logits, LABELS)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    torch.testing.assert_close(log_scale.exp()[:, None] * gradient, expected)


def test_cross_entropy_is_climbed_where_its_own_gradient_has_underflown() -> None:
    logits = torch.tensor([[200.0, 0.0, -5.0]], requires_grad=True)
    label = torch.tensor([0])
    assert torch.autograd.grad(cross_entropy(logits, label).sum(), logits)[0].abs().max() == 0
    values, log_scale = climbed("cross_entropy", logits, label)
    torch.testing.assert_close(torch.autograd.grad(values.sum(), logits)[0][0, :2], torch.tensor([-1.0, 0.9933]))
    torch.testing.assert_close(log_scale, torch.tensor([-200.0]), atol=0.01, rtol=0)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([0.0, 1.0, -1.0, 1e-40, 3e38, float("inf"), float("-inf"), float("nan")]),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_lead_is_negative_exactly_where_the_prediction_is_right(row: list[float], data: st.DataObject) -> None:
    logits, labels = torch.tensor([row]), torch.tensor([data.draw(st.integers(0, len(row) - 1))])
    verdict = lead(logits, labels)
    assert not verdict.isnan().any()
    assert (verdict < 0).item() == is_correct(logits, labels).item()


def test_a_nan_is_never_right() -> None:
    assert not is_correct(torch.tensor([[torch.nan, 0.0], [5.0, torch.nan]]), torch.tensor([0, 0])).any()
