"""What every attack shares: the ball, the random draws, the model held still, and gradients that survive underflow."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from grfd.attacks.asked import Asked, answers
from grfd.attacks.losses import lead
from grfd.attacks.ranges import NOT_NEGATIVE, in_range
from grfd.errors import UserError
from grfd.types import Images, Labels, Logits, PerExample

Model = Callable[[Images], Logits]
Norm = Literal["linf", "l2"]
"""What ε bounds: the largest change of a pixel, or the Euclidean length of the change."""

Climb = Callable[[Logits, Labels], tuple[PerExample, PerExample]]
"""(logits, labels) -> (values, log_scale), as `losses.climbed`."""

Points = Float[Tensor, "samples batch channel height width"]
PerSample = Float[Tensor, "samples batch"]

Rows = Int[Tensor, "rows"]
"""Indices into a batch, of the examples that are worked on."""

RowImages = Float[Tensor, "rows channel height width"]
PerRow = Float[Tensor, "rows"]


class Batch(NamedTuple):
    """What is attacked: images, labels, the ball, and the corners of L∞ ball ∩ box, to which iterates are clamped.

    `dtype` is that of the caller's images. Half-precision images are attacked in float32: their squares and quotients
    overflow and underflow otherwise.
    """

    images: Images
    labels: Labels
    lower: Images
    upper: Images
    eps: float
    norm: Norm
    dtype: torch.dtype


class Slope(NamedTuple):
    """One look at the model: at sample s of example b, ∇loss = exp(log_scale[s, b]) · gradient[s, b]."""

    gradient: Points
    log_scale: PerSample
    values: PerSample
    lead: PerSample


@contextmanager
def attacking(
    model: Model, images: Images, labels: Labels, eps: float, bounds: tuple[float, float], norm: Norm = "linf"
) -> Iterator[tuple[Asked, Batch]]:
    """Checks the input, freezes the model, and yields the model as attacks ask it, and the batch with its ball.

    Clamping to precomputed corners keeps iterates inside L∞ ball and box exactly. Raises UserError for what cannot be
    attacked.
    """
    _check(images, labels, eps, bounds, norm)
    # Tensors made under inference_mode cannot be saved for a backward pass: copies made outside it can.
    with torch.inference_mode(False), torch.no_grad(), frozen(model):
        dtype = images.dtype
        working = torch.promote_types(dtype, torch.float32)
        images = images.detach().to(working, copy=True).clamp(*bounds)
        labels = labels.detach().to(images.device, torch.long, copy=True)
        largest = int(labels.max()) if len(labels) else 0
        asked = model if isinstance(model, Asked) else Asked(model, dtype, largest)
        lower, upper = (images - eps).clamp(*bounds), (images + eps).clamp(*bounds)
        yield asked, Batch(images, labels, lower, upper, eps, norm, dtype)


def finished(images: Images, batch: Batch) -> Images:
    """What an attack returns: in the caller's precision, inside the ball and the box as they round there."""
    if images.dtype == batch.dtype:
        return images
    lower, upper = batch.lower.to(batch.dtype), batch.upper.to(batch.dtype)
    return images.to(batch.dtype).maximum(lower).minimum(upper)


def rows_of(batch: Batch, rows: Rows) -> Batch:
    """The examples at these indices."""
    images, labels, lower, upper = (tensor[rows] for tensor in batch[:4])
    return batch._replace(images=images, labels=labels, lower=lower, upper=upper)


def project(images: Images, batch: Batch) -> Images:
    """Onto ball ∩ box. For L2 first onto the ball, then into the box, which leads no point out of the ball again."""
    if batch.norm == "l2":
        change = images - batch.images
        longest = (batch.eps / length(change, "l2").clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1)
        images = batch.images + per_image(longest) * change
    return images.clamp(batch.lower, batch.upper)


def stretched(images: Images, batch: Batch) -> Images:
    """Each perturbation at the length ε, where it has one; drawn into the box, which may shorten it."""
    change = images - batch.images
    long = length(change, batch.norm)
    factor = torch.where(long > 0, batch.eps / long.clamp_min(torch.finfo(long.dtype).tiny), 0.0)
    return project(batch.images + per_image(factor) * change, batch)


def length(change: Images, norm: Norm) -> PerExample:
    """Of each perturbation: its largest absolute pixel, or its Euclidean length."""
    flat = change.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(flat, dim=1)


def steepest(gradient: Images, norm: Norm) -> Images:
    """The step of unit length along which a linear loss rises most: the sign, or the gradient over its length."""
    if norm == "linf":
        return gradient.sign()
    # Scaled by its largest entry first: the squares of a tiny gradient underflow.
    scaled = gradient / per_image(length(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny))
    return scaled / per_image(length(scaled, "l2").clamp_min(1))


def keep_better(
    result: Images, best: PerExample, rows: Rows, found: RowImages, leads: PerRow, always: bool = False
) -> None:
    """Writes into `result` and `best`, at these rows, what leads by more (or anything, if `always`)."""
    better = (leads > best[rows]) | always
    result[rows] = torch.where(per_image(better), found, result[rows])
    best[rows] = torch.where(better, leads, best[rows])


def remaining(leads: PerExample, active_set: bool) -> Rows:
    """Indices of the examples to attack: all, or those that do not fool the model yet (one host synchronisation)."""
    rows = torch.arange(len(leads), device=leads.device)
    return rows[leads < 0] if active_set else rows


def per_image(values: Tensor) -> Tensor:
    """[batch] as [batch, 1, 1, 1]."""
    return values[:, None, None, None]


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """No parameter requires a gradient inside; every one that did, does again on the way out, also by an exception."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    thawed = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in thawed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


def slope(model: Asked, points: Points, labels: Labels, climb: Climb) -> Slope:
    """Gradients of `climb` at all points, in one batch of samples × batch.

    A gradient that is not finite counts as 0, and so does that of a model that cuts the graph (as that of a rounding
    does): the masking checks exist to report both. Examples are summed, so that none poisons another.
    """
    samples = points.shape[0]
    repeated = labels.repeat(samples)
    with torch.enable_grad():
        inputs = points.flatten(0, 1).detach().requires_grad_()
        logits = answers(model, inputs)
        values, log_scale = climb(logits, repeated)
        # Grown by a zero, the sum has a graph even where the model cuts it.
        (gradient,) = torch.autograd.grad(values.sum() + 0 * inputs.sum(), inputs)
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    shape = (samples, len(labels))
    log_scale = log_scale.detach().nan_to_num(nan=-torch.inf)
    return Slope(
        gradient.unflatten(0, shape),
        log_scale.unflatten(0, shape),
        values.detach().nan_to_num(nan=-torch.inf).unflatten(0, shape),
        lead(logits.detach(), repeated).unflatten(0, shape),
    )


def total(gradient: Points, log_scale: PerSample) -> tuple[Images, PerExample]:
    """(sum, scale) with exp(scale)·sum = Σ_s exp(log_scale_s)·gradient_s, and nothing lost to underflow on the way."""
    log_scale = log_scale.clamp_min(torch.finfo(log_scale.dtype).min)
    scale = log_scale.amax(0)
    weights = (log_scale - scale).exp()
    return (weights[..., None, None, None] * gradient).sum(0), scale


def repeat(images: Images, samples: int) -> Points:
    """The same images `samples` times: a random model draws anew for each row of a batch."""
    return images.expand(samples, *images.shape)


def mean_lead(model: Asked, images: Images, labels: Labels, samples: int = 1) -> PerExample:
    """`losses.lead` by a forward pass alone, averaged over the samples: ≥ 0 where the model is fooled."""
    if len(images) == 0:
        return images.new_zeros(0)
    with torch.no_grad():
        logits = answers(model, repeat(images, samples).flatten(0, 1))
        return lead(logits, labels.repeat(samples)).unflatten(0, (samples, len(labels))).mean(0)


def likeliest_wrong(model: Asked, batch: Batch, count: int) -> tuple[Labels, ...]:
    """The `count` likeliest wrong classes of each clean image (all of them where there are fewer), likeliest first."""
    with torch.no_grad():
        logits = answers(model, batch.images)
    wrong = logits.scatter(1, batch.labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
    return wrong[:, :count].unbind(1)


def random_point(batch: Batch, generator: torch.Generator | None) -> Images:
    """In ball ∩ box: uniform in the L∞ ball; for L2 of uniform direction and uniform length, as in TorchAttacks."""
    shape = tuple(batch.images.shape)
    if batch.norm == "linf":
        return project(batch.images + uniform(batch.images, shape, -batch.eps, batch.eps, generator), batch)
    direction = steepest(normal(batch.images, shape, generator), "l2")
    radius = uniform(batch.images, (shape[0],), 0.0, batch.eps, generator)
    return project(batch.images + per_image(radius) * direction, batch)


def normal(like: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """N(0, 1) of that shape, with the device and dtype of `like`; drawn where the generator lives."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, dtype=like.dtype, device=device, generator=generator).to(like.device)


def uniform(like: Tensor, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """U(low, high) of that shape, with the device and dtype of `like`; drawn where the generator lives."""
    device = like.device if generator is None else generator.device
    noise = torch.rand(shape, dtype=like.dtype, device=device, generator=generator)
    return (low + (high - low) * noise).to(like.device)


ROUNDING = 1e-6
"""Pixels may lie outside the box by so much: what a resize or a normalisation undone leaves. They are clamped."""


def _check(images: Images, labels: Labels, eps: float, bounds: tuple[float, float], norm: str) -> None:
    if norm not in ("linf", "l2"):
        raise UserError(f"{norm=}; expected 'linf' or 'l2'")
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        shape = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise UserError(f"images are {shape}; expected floats [batch, channel, height, width]")
    _check_labels(labels, len(images))
    _check_bounds(bounds)
    largest_eps = bounds[1] - bounds[0] if norm == "linf" else math.inf
    in_range(eps=(eps, NOT_NEGATIVE))
    if eps > largest_eps:
        raise UserError(f"eps={eps:g}; expected at most {largest_eps:g}, the range of a pixel ({eps:g}/255 was meant?)")
    low, high = (bound.item() for bound in images.detach().aminmax()) if images.numel() else bounds
    excess = max(bounds[0] - low, high - bounds[1])
    if not excess <= ROUNDING:
        raise UserError(
            f"images reach from {low:.9g} to {high:.9g}, {excess:.3g} outside the box; expected {list(bounds)}"
        )


def _check_bounds(bounds: tuple[float, float]) -> None:
    numbers = isinstance(bounds, tuple | list) and len(bounds) == 2 and all(isinstance(each, Real) for each in bounds)
    if not numbers or not -math.inf < bounds[0] < bounds[1] < math.inf:
        raise UserError(f"{bounds=}; expected two finite numbers, the smaller one first")


def _check_labels(labels: Labels, count: int) -> None:
    if (
        not isinstance(labels, Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.dtype == torch.bool
    ):
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f"labels are {kind}; expected a tensor of integers, the number of each image's class")
    if labels.shape != (count,):
        raise UserError(f"labels have shape {tuple(labels.shape)}; expected ({count},), one for each image")
    if count and int(labels.min()) < 0:
        raise UserError(f"a label is {int(labels.min())}; expected class numbers from 0")
