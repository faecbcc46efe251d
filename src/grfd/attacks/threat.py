"""What every attack shares: the ball, the random draws, the model held still, and gradients that survive underflow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from grfd.attacks.losses import lead
from grfd.errors import UserError
from grfd.types import Images, Labels, Logits, PerExample

Model = Callable[[Images], Logits]
Norm = Literal["linf", "l2"]
"""What ε bounds: the largest change of a pixel, or the Euclidean length of the change."""

Climb = Callable[[Logits, Labels], tuple[PerExample, PerExample]]
"""(logits, labels) -> (values, log_scale), as `losses.climbed`."""

Points = Float[Tensor, "samples batch channel height width"]
PerSample = Float[Tensor, "samples batch"]

IMAGES_A_PASS = 256
"""How many images a CPU takes through a model at a time: the features of many more leave its cache."""

Rows = Int[Tensor, "rows"]
"""Indices into a batch, of the examples that are worked on."""

RowImages = Float[Tensor, "rows channel height width"]
PerRow = Float[Tensor, "rows"]


class Batch(NamedTuple):
    """What is attacked: images, labels, the ball, and the corners of L∞ ball ∩ box, to which iterates are clamped."""

    images: Images
    labels: Labels
    lower: Images
    upper: Images
    eps: float
    norm: Norm


class Slope(NamedTuple):
    """One look at the model: at sample s of example b, ∇loss = exp(log_scale[s, b]) · gradient[s, b]."""

    gradient: Points
    log_scale: PerSample
    values: PerSample
    lead: PerSample


@contextmanager
def attacking(
    model: Model, images: Images, labels: Labels, eps: float, bounds: tuple[float, float], norm: Norm = "linf"
) -> Iterator[Batch]:
    """Checks the input, freezes the model, and yields copies of the batch with its ball.

    Clamping to precomputed corners keeps iterates inside L∞ ball and box exactly. Raises UserError for what cannot be
    attacked.
    """
    _check(images, labels, eps, bounds, norm)
    # Tensors made under inference_mode cannot be saved for a backward pass: copies made outside it can.
    with torch.inference_mode(False), torch.no_grad(), frozen(model):
        images, labels = images.detach().clone(), labels.detach().long().clone()
        yield Batch(images, labels, (images - eps).clamp(*bounds), (images + eps).clamp(*bounds), eps, norm)


def rows_of(batch: Batch, rows: Rows) -> Batch:
    """The examples at these indices."""
    images, labels, lower, upper = (tensor[rows] for tensor in batch[:4])
    return Batch(images, labels, lower, upper, batch.eps, batch.norm)


def project(images: Images, batch: Batch) -> Images:
    """Onto ball ∩ box. For L2 first onto the ball, then into the box, which leads no point out of the ball again."""
    if batch.norm == "l2":
        change = images - batch.images
        longest = (batch.eps / length(change, "l2").clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1)
        images = batch.images + per_image(longest) * change
    return images.clamp(batch.lower, batch.upper)


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


def answers(model: Model, images: Images) -> Logits:
    """The model's logits; on a CPU in passes of `IMAGES_A_PASS`."""
    if images.device.type != "cpu" or len(images) <= IMAGES_A_PASS:
        return model(images)
    return torch.cat([model(part) for part in images.split(IMAGES_A_PASS)])


def slope(model: Model, points: Points, labels: Labels, climb: Climb) -> Slope:
    """Gradients of `climb` at all points, in one batch of samples × batch.

    A gradient that is not finite counts as 0, and so does that of a model that cuts the graph (as that of a rounding
    does): the masking checks exist to report both. Examples are summed, so that none poisons another.
    """
    samples = points.shape[0]
    repeated = labels.repeat(samples)
    with torch.enable_grad():
        inputs = points.flatten(0, 1).detach().requires_grad_()
        logits = answers(model, inputs).to(inputs.dtype)
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


def mean_lead(model: Model, images: Images, labels: Labels, samples: int = 1) -> PerExample:
    """`losses.lead` by a forward pass alone, averaged over the samples: ≥ 0 where the model is fooled."""
    if len(images) == 0:
        return images.new_zeros(0)
    with torch.no_grad():
        logits = answers(model, repeat(images, samples).flatten(0, 1)).to(images.dtype)
        return lead(logits, labels.repeat(samples)).unflatten(0, (samples, len(labels))).mean(0)


def likeliest_wrong(model: Model, batch: Batch, count: int) -> tuple[Labels, ...]:
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


def _check(images: Images, labels: Labels, eps: float, bounds: tuple[float, float], norm: str) -> None:
    if norm not in ("linf", "l2"):
        raise UserError(f"{norm=}; expected 'linf' or 'l2'")
    if images.ndim != 4 or not images.is_floating_point():
        shape = tuple(images.shape)
        raise UserError(f"images are {images.dtype} {shape}; expected floats [batch, channel, height, width]")
    if labels.shape != images.shape[:1]:
        raise UserError(f"labels have shape {tuple(labels.shape)}; expected ({len(images)},), one an image")
    if not 0 <= eps < float("inf"):
        raise UserError(f"eps={eps}; expected a number ≥ 0, in pixels of [0, 1]")
    low, high = (bound.item() for bound in images.aminmax()) if images.numel() else bounds
    if not (bounds[0] <= low and high <= bounds[1]):
        raise UserError(f"images reach from {low:g} to {high:g}; expected values in {list(bounds)}")
