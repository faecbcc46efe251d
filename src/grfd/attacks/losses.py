"""Losses that attacks maximise, one value per example. All take logits [batch, classes] and labels [batch]."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from grfd.errors import UserError
from grfd.types import Labels, Logits, PerExample

Correct = Bool[Tensor, "batch"]
Loss = Callable[[Logits, Labels], PerExample]


def cross_entropy(logits: Logits, labels: Labels) -> PerExample:
    """−log softmax(logits)_y."""
    return F.cross_entropy(logits, labels, reduction="none")


def log_odds(logits: Logits, labels: Labels) -> PerExample:
    """m = logsumexp over the other classes − the true logit, so that CE = softplus(m) and ∇CE = σ(m)·∇m.

    ∇CE underflows to exactly zero in float32 once m < −104; ∇m never vanishes.
    """
    return _others(logits, labels).logsumexp(1) - _true(logits, labels)


def margin(logits: Logits, labels: Labels) -> PerExample:
    """max_{j≠y} z_j − z_y, the loss of Carlini & Wagner (2017, arXiv 1608.04644), positive where misclassified."""
    return _others(logits, labels).amax(1) - _true(logits, labels)


def dlr(logits: Logits, labels: Labels) -> PerExample:
    """Difference of logits ratio (Croce & Hein 2020, arXiv 2003.01690, eq. 6): margin ÷ (z_π1 − z_π3).

    With fewer than three classes, there is no z_π3, and the margin is returned.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def targeted_dlr(logits: Logits, labels: Labels, targets: Labels) -> PerExample:
    """Targeted DLR (Croce & Hein 2020, arXiv 2003.01690, eq. 7): (z_t − z_y) ÷ (z_π1 − (z_π3 + z_π4) / 2).

    With three classes, there is no z_π4, and the denominator is z_π1 − z_π3. With two classes, it is z_t − z_y.
    """
    difference = _true(logits, targets) - _true(logits, labels)
    if logits.shape[1] < 3:
        return difference
    top = logits.topk(min(4, logits.shape[1]), dim=1).values
    return difference / (top[:, 0] - (top[:, 2] + top[:, -1]) / 2).clamp_min(1e-12)


def is_correct(logits: Logits, labels: Labels) -> Correct:
    """Whether the prediction is right. Logits with a NaN count as wrong (`argmax` would choose the NaN)."""
    return (logits.argmax(1) == labels) & ~logits.isnan().any(1)


def lead(logits: Logits, labels: Labels) -> PerExample:
    """How far the best wrong class leads: the margin, corrected to be ≥ 0 exactly where `is_correct` is false.

    Attacks rank iterates by it. The correction concerns ties, where `argmax` may choose either class, and NaN (+∞).
    """
    value = margin(logits, labels)
    negative = value.nan_to_num(nan=0.0).clamp(max=-torch.finfo(value.dtype).tiny)
    positive = value.nan_to_num(nan=torch.inf, posinf=torch.inf).clamp(min=0.0)
    return torch.where(is_correct(logits, labels), negative, positive)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "literal_cross_entropy": cross_entropy,
}
"""`literal_cross_entropy` is differentiated directly, and underflows as it does in TorchAttacks (see `climbed`)."""


def climbed(loss: str, logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
    """(values, log_scale) with ∇loss = exp(log_scale)·∇values, so that a gradient keeps its sign where it underflows.

    Cross-entropy is maximised through m (`log_odds`) with log_scale = log σ(m). This is the same gradient in two
    factors, not another loss. Where only the sign of one gradient counts (FGSM, PGD), the scale has no effect. Where
    several gradients are summed (EOT, variance tuning), the sum needs it. The cross-entropy increases with m, so
    comparisons of values agree too.
    """
    if loss == "cross_entropy":
        values = log_odds(logits, labels)
        return values, F.logsigmoid(values).detach()
    if loss not in LOSSES:
        raise UserError(f"loss={loss!r} is unknown; expected one of {', '.join(LOSSES)}")
    values = LOSSES[loss](logits, labels)
    return values, torch.zeros_like(values)


def _true(logits: Logits, labels: Labels) -> PerExample:
    return logits.gather(1, labels[:, None]).squeeze(1)


def _others(logits: Logits, labels: Labels) -> Logits:
    return logits.scatter(1, labels[:, None], -torch.inf)
