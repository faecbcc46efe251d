"""What an attack learns about a model: gradients that do not underflow, leads, and the likeliest wrong classes."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from grfd.attacks.checked_model import CheckedModel, logits_of
from grfd.attacks.losses import lead
from grfd.attacks.pass_size import not_counted, pass_limit
from grfd.attacks.row_parallel import gradient_in_parts, is_worth_parts
from grfd.attacks.threat import Batch
from grfd.types import Images, Labels, Logits, PerExample

Climb = Callable[[Logits, Labels], tuple[PerExample, PerExample]]
"""(logits, labels) -> (values, log_scale), as `losses.climbed`."""

Points = Float[Tensor, "samples batch channel height width"]
PerSample = Float[Tensor, "samples batch"]


class Slope(NamedTuple):
    """One evaluation of the model: at sample s of example b, ∇loss = exp(log_scale[s, b]) · gradient[s, b]."""

    gradient: Points
    log_scale: PerSample
    values: PerSample
    lead: PerSample


def slope(model: CheckedModel, points: Points, labels: Labels, climb: Climb) -> Slope:
    """Gradients of `climb` at all points, in one batch of samples × batch.

    A gradient that is not finite counts as 0. So does the gradient of a model that cuts the graph, as rounding does.
    The masking checks report both. Examples are summed, so that none affects the gradient of another.
    """
    samples = points.shape[0]
    repeated = labels.repeat(samples)
    inputs = points.flatten(0, 1).detach()
    limit = pass_limit()
    if limit is not None and len(inputs) > limit:
        gradient, logits, values, log_scale = _in_passes(model, inputs, repeated, climb, limit)
    else:
        gradient, logits, values, log_scale = _differentiated(model, inputs, repeated, climb)
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    shape = (samples, len(labels))
    log_scale = log_scale.detach().nan_to_num(nan=-torch.inf)
    return Slope(
        gradient.unflatten(0, shape),
        log_scale.unflatten(0, shape),
        values.detach().nan_to_num(nan=-torch.inf).unflatten(0, shape),
        lead(logits.detach(), repeated).unflatten(0, shape),
    )


_Differentiated = tuple[Images, Logits, PerExample, PerExample]
"""(gradient, logits, values, log_scale), all without a graph that leads to the images."""


def _differentiated(model: CheckedModel, inputs: Images, labels: Labels, climb: Climb) -> _Differentiated:
    how = _in_parts if model.in_parts and is_worth_parts(inputs) else _at_once
    return how(model, inputs, labels, climb)


def _in_passes(model: CheckedModel, inputs: Images, labels: Labels, climb: Climb, limit: int) -> _Differentiated:
    """The same, but no graph is of more images than the limit.

    The loss may know every example, so first all logits are computed without a graph, and the loss is differentiated
    with respect to them. Then each pass runs forward again, with the same random draws, and backward.
    """
    states, answers = [], []
    with not_counted(), torch.no_grad():
        for part in inputs.split(limit):
            states.append(torch.get_rng_state())
            answers.append(logits_of(model, part))
    with torch.enable_grad():
        logits = torch.cat(answers).requires_grad_()
        values, log_scale = climb(logits, labels)
        (outer,) = torch.autograd.grad(values.sum() + 0 * logits.sum(), logits)
    after, gradients = torch.get_rng_state(), []
    for state, part, weights in zip(states, inputs.split(limit), outer.split(limit), strict=True):
        torch.set_rng_state(state)
        weighted = partial(_weighted, weights=weights)
        gradients.append(_differentiated(model, part, labels[: len(part)], weighted)[0])
    torch.set_rng_state(after)
    return torch.cat(gradients), logits.detach(), values, log_scale


def _weighted(logits: Logits, labels: Labels, *, weights: Logits) -> tuple[PerExample, PerExample]:
    values = (weights * logits).sum(1)
    return values, torch.zeros_like(values)


def _at_once(model: CheckedModel, inputs: Images, labels: Labels, climb: Climb) -> _Differentiated:
    with torch.enable_grad():
        inputs = inputs.requires_grad_()
        logits = logits_of(model, inputs)
        values, log_scale = climb(logits, labels)
        # With a zero added, the sum has a graph even where the model cuts it.
        (gradient,) = torch.autograd.grad(values.sum() + 0 * inputs.sum(), inputs)
    return gradient, logits, values, log_scale


def _in_parts(model: CheckedModel, inputs: Images, labels: Labels, climb: Climb) -> _Differentiated:
    found: list[tuple[PerExample, PerExample]] = []

    def loss_of(logits: Logits) -> PerExample:
        found.append(climb(logits, labels))
        return found[-1][0]

    gradient, logits = gradient_in_parts(model, inputs, loss_of)
    return gradient, logits, *found[-1]


def total(gradient: Points, log_scale: PerSample) -> tuple[Images, PerExample]:
    """(sum, scale) with exp(scale)·sum = Σ_s exp(log_scale_s)·gradient_s, computed without underflow."""
    log_scale = log_scale.clamp_min(torch.finfo(log_scale.dtype).min)
    scale = log_scale.amax(0)
    weights = (log_scale - scale).exp()
    return (weights[..., None, None, None] * gradient).sum(0), scale


def repeat(images: Images, samples: int) -> Points:
    """The same images `samples` times. A random model draws independently for each row of a batch."""
    return images.expand(samples, *images.shape)


def mean_lead(model: CheckedModel, images: Images, labels: Labels, samples: int = 1) -> PerExample:
    """`losses.lead` from a forward pass, averaged over the samples. It is ≥ 0 where the model is fooled."""
    if len(images) == 0:
        return images.new_zeros(0)
    with torch.no_grad():
        logits = logits_of(model, repeat(images, samples).flatten(0, 1))
        return lead(logits, labels.repeat(samples)).unflatten(0, (samples, len(labels))).mean(0)


def likeliest_wrong(model: CheckedModel, batch: Batch, count: int) -> tuple[Labels, ...]:
    """The `count` likeliest wrong classes of each clean image (or all, if there are fewer), the likeliest first."""
    with torch.no_grad():
        logits = logits_of(model, batch.images)
    wrong = logits.scatter(1, batch.labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
    return wrong[:, :count].unbind(1)
