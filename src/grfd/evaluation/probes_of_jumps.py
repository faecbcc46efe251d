"""Probes for what a gradient cannot see: jumps of the answer, unfinished attacks, bad surrogates, hidden gradients.

They have the form of those in `grfd.evaluation.probes`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable, forward_ad

from grfd.attacks import pgd
from grfd.attacks.losses import log_odds
from grfd.attacks.pass_size import pass_limit
from grfd.defenses import is_stochastic
from grfd.evaluation.attacker import answer, attacked_model, predictions, surrogate_of
from grfd.evaluation.case import Case, scale_for
from grfd.evaluation.findings import Finding, is_large
from grfd.seeds import generator
from grfd.types import Images, Labels

PATHS = 40
"""Images whose paths are followed."""
POINTS = 64
"""Steps of a path, at whose ends the gradient is taken."""
WORST_PATHS = 0.1
"""The share of paths that may be worse."""
CONTINUOUS = 0.8
"""The share of the changes of the log-odds that the gradient must add up to. Networks without jumps reach 0.98, those
whose logits are rounded, one-hot or signs at most 0.31."""
ATTACKED = 100
"""Images for the probes that attack."""
STEPS_OF_LARGE = 20
"""Steps of PGD, then twice as many, for large images in place of the judge's."""
STILL_FALLING = 0.05
"""How much more accurate the model may be after the judge's steps of PGD than after twice as many."""
APART = 0.2
"""How much more accurate the defense may be than its surrogate on examples that were made on the surrogate."""


def logit_jumps(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Whether the log-odds change along a path by what their gradient adds up to, as they do in any continuous model.

    Each path leads from an image to one of another class. The sum of gradient · step over many small steps is the
    change of a continuous function, also of one with kinks (fundamental theorem of calculus). A step of the function
    adds to the change but not to the sum, and no attack by gradients can find it.
    """
    if is_stochastic(model):
        return False, "not tested: the answers are random"
    starts, ends, labels = _pairs(images[: 5 * PATHS], labels[: 5 * PATHS])
    if len(starts) == 0:
        return False, "not tested: all images are of one class"
    explained = _explained(surrogate_of(model), starts, ends, labels)
    if explained is None:
        return True, "there is no gradient to add up along a path"
    share = explained.quantile(WORST_PATHS).item()  # not the median: a tenth of the images is enough to mislead
    detail = f"along paths to images of another class the gradient adds up to {share:.0%} of the change of the log-odds"
    return (
        not share >= CONTINUOUS,
        detail + f" (the worst tenth of {len(starts)} paths, flagged below {CONTINUOUS:.0%})",
    )


def _pairs(images: Images, labels: Labels) -> tuple[Images, Images, Labels]:
    """Images, each with the next one of another class, at most `PATHS`."""
    others = [next((j for j in (*range(i + 1, len(labels)), *range(i)) if labels[j] != labels[i]), -1)
              for i in range(min(PATHS, len(labels)))]  # fmt: skip
    rows = torch.tensor([i for i, j in enumerate(others) if j >= 0], dtype=torch.long, device=images.device)
    columns = torch.tensor([j for j in others if j >= 0], dtype=torch.long, device=images.device)
    return images[rows], images[columns], labels[rows]


def _explained(model: nn.Module, starts: Images, ends: Images, labels: Labels) -> Tensor | None:
    """For each path 1 − |change − sum of gradient · step| / total variation, at least 0; None without a gradient.

    The total variation is that of the log-odds over the points of the path, so that a path whose ends are alike counts,
    too.
    """
    move = (ends - starts) / POINTS
    variation, errors, before = torch.zeros(2, len(starts)).double(), torch.zeros(len(starts)).double(), None
    for point in range(POINTS + 1):
        measured = _at(model, (starts + point * move).detach(), move, labels)
        if measured is None:
            return None
        if before is not None:
            step = measured[0] - before[0]
            predicted = (measured[1] + before[1]) / 2  # the trapezoidal rule
            errors += step - predicted
            variation += torch.stack([step.abs(), predicted.abs()])
        before = measured
    return (1 - errors.abs() / variation.amax(0).clamp_min(torch.finfo(torch.float64).tiny)).clamp_min(0)


def _at(model: nn.Module, place: Images, move: Images, labels: Labels) -> tuple[Tensor, Tensor] | None:
    """The log-odds at a place, and gradient · move."""
    limit = pass_limit() or len(place)
    pieces = zip(*(each.split(limit) for each in (place, move, labels)), strict=True)
    parts = [_at_pass(model, *piece) for piece in pieces]
    if any(part is None for part in parts):
        return None
    odds, slopes = zip(*(part for part in parts if part is not None), strict=True)
    return torch.cat(odds), torch.cat(slopes)


def _at_pass(model: nn.Module, place: Images, move: Images, labels: Labels) -> tuple[Tensor, Tensor] | None:
    place = place.detach()
    place.requires_grad_()
    with torch.enable_grad():
        odds = log_odds(answer(model, place), labels)
        if not odds.requires_grad:
            return None
        (slope,) = torch.autograd.grad(odds.sum(), place, allow_unused=True)
    if slope is None:
        return None
    return odds.detach().double().cpu(), (slope.nan_to_num() * move).flatten(1).sum(1).double().cpu()


def unfinished_optimisation(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Whether PGD with the judge's budget is still on its way: twice as many steps find clearly more.

    On large images it is PGD of `STEPS_OF_LARGE`.
    """
    if is_stochastic(model):
        return False, "not tested: the answers are random"
    images, labels = images[:ATTACKED], labels[:ATTACKED]
    budget = case.budgets["pgd"]
    judged = STEPS_OF_LARGE if is_large(images) else budget["steps"]
    right = []
    for steps in (judged, 2 * judged):
        stream = generator(case.seed, "check", "unfinished", device=case.device)
        attacked = attacked_model(model, scale_for(case, model))
        made = pgd(attacked, images, labels, **(budget | {"steps": steps}), generator=stream)
        right.append((predictions(model, made) == labels).float().mean().item())
    detail = f"{right[0]:.1%} right after {judged} steps of PGD, {right[1]:.1%} after twice as many"
    return right[1] < right[0] - STILL_FALLING, detail + f" (flagged {100 * STILL_FALLING:.0f} points below)"


def surrogate_alone(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Whether examples that fool the surrogate fail on the defense, so that its gradients are another model's."""
    surrogate = surrogate_of(model)
    if surrogate is model:
        return False, "not tested: there is no surrogate"
    if is_stochastic(model):
        return False, "not tested: the answers are random"
    images, labels = images[:ATTACKED], labels[:ATTACKED]
    stream = generator(case.seed, "check", "surrogate", device=case.device)
    attacked = attacked_model(model, scale_for(case, model))
    made = pgd(attacked, images, labels, **(case.budgets["pgd"] | {"steps": 20}), generator=stream)
    theirs, ours = ((predictions(each, made) == labels).float().mean().item() for each in (surrogate, model))
    detail = f"on examples that were made on the surrogate, it has {theirs:.1%} right and the defense {ours:.1%}"
    return ours > theirs + APART, detail + f" (flagged {100 * APART:.0f} points above)"


def gradients_at_inference(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Whether the forward pass computes gradients itself, as an adaptation or a purification at test time does.

    An attack then differentiates through an optimisation, or past it: give a `surrogate()` and more steps.
    """
    with _counted_backward_passes() as backward, _counted_forward_derivatives() as forward, torch.no_grad():
        answer(model, images[:4])
    detail = f"{backward[0]} backward passes in a forward pass"
    if forward[0]:
        detail += f", and {forward[0]} derivatives in forward mode"
    found = backward[0] + forward[0] > 0
    return found, detail + (": the model optimises something while it answers" if found else "")


@contextmanager
def _counted_backward_passes() -> Iterator[list[int]]:
    """Counts every run of PyTorch's autograd engine, by whatever function, and restores the engine afterwards."""
    engine: Any = Variable._execution_engine
    count = [0]

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def run_backward(self, *arguments: Any, **keywords: Any) -> Any:
            count[0] += 1
            return engine.run_backward(*arguments, **keywords)

    Variable._execution_engine = Counting()  # type: ignore[assignment]
    try:
        yield count
    finally:
        Variable._execution_engine = engine


@contextmanager
def _counted_forward_derivatives() -> Iterator[list[int]]:
    """Counts every start of forward-mode differentiation, which needs no backward pass."""
    enter = forward_ad.enter_dual_level
    count = [0]

    def entered() -> int:
        count[0] += 1
        return enter()

    forward_ad.enter_dual_level = entered
    try:
        yield count
    finally:
        forward_ad.enter_dual_level = enter
