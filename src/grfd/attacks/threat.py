"""The ball around each image: projection, steps of unit length, and random points."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from grfd.types import Images, Labels, PerExample

Norm = Literal["linf", "l2", "l1"]
"""What ε bounds: the largest change of a pixel, the Euclidean length of the change, or the sum of all changes."""

Rows = Int[Tensor, "rows"]
"""Indices of the examples of a batch that are still attacked."""


class Batch(NamedTuple):
    """What is attacked: images, labels, the ball, and the corners of L∞ ball ∩ box, to which iterates are clamped.

    `eps` is in pixels of [0, 1], measured as `norm` says. For "l1" the corners are those of the box alone. `dtype` is
    that of the caller's images. Images in half precision are attacked in float32, because their squares and quotients
    would overflow or underflow.
    """

    images: Images
    labels: Labels
    lower: Images
    upper: Images
    eps: float
    norm: Norm
    dtype: torch.dtype


def finished(images: Images, batch: Batch) -> Images:
    """What an attack returns: images in the caller's precision, inside the ball and the box as rounded to it."""
    if images.dtype == batch.dtype:
        return images
    lower, upper = batch.lower.to(batch.dtype), batch.upper.to(batch.dtype)
    return images.to(batch.dtype).maximum(lower).minimum(upper)


def rows_of(batch: Batch, rows: Rows) -> Batch:
    """The examples at these indices."""
    images, labels, lower, upper = (tensor[rows] for tensor in batch[:4])
    return batch._replace(images=images, labels=labels, lower=lower, upper=upper)


def project(images: Images, batch: Batch) -> Images:
    """Onto ball ∩ box. For L2, first onto the ball and then into the box, which moves no point out of the ball.

    For L1 it is the nearest point of the intersection (`onto_l1_ball_in_box`).
    """
    if batch.norm == "l1":
        return onto_l1_ball_in_box(images, batch)
    if batch.norm == "l2":
        change = images - batch.images
        longest = (batch.eps / length(change, "l2").clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1)
        images = batch.images + per_image(longest) * change
    return images.clamp(batch.lower, batch.upper)


def onto_l1_ball_in_box(images: Images, batch: Batch) -> Images:
    """The nearest point with Σ|x′ − x| ≤ ε in the box (Croce & Hein 2021, arXiv 2103.01208, proposition 2.1).

    Each change is shortened by one λ ≥ 0 for the whole image and then clamped to the box: |δ_i| = min((|u_i| − λ)₊,
    room_i). The sum of these is piecewise linear and decreasing in λ, with kinks at |u_i| − room_i and |u_i|, which are
    sorted to find the piece on which it equals ε.
    """
    change = (images - batch.images).flatten(1)
    size = change.abs()
    above, below = ((batch.upper - batch.images).flatten(1), (batch.images - batch.lower).flatten(1))
    room = torch.where(change > 0, above, below)
    begins, ends = (size - room).clamp_min(0), size
    kinks, order = torch.cat([begins, ends], 1).sort(1)
    slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1).gather(1, order).cumsum(1)
    fallen = torch.cat([torch.zeros_like(size[:, :1]), (slopes[:, :-1] * kinks.diff(dim=1)).cumsum(1)], 1)
    excess = (torch.minimum(size, room).sum(1, keepdim=True) - batch.eps).clamp_min(0)
    piece = (torch.searchsorted(fallen, excess, right=True) - 1).clamp(0, kinks.shape[1] - 1)
    slope = slopes.gather(1, piece).clamp_min(1)
    threshold = kinks.gather(1, piece) + (excess - fallen.gather(1, piece)) / slope
    threshold = torch.where(excess > 0, threshold, 0.0)
    shortened = torch.minimum((size - threshold).clamp_min(0), room) * change.sign()
    return (batch.images + shortened.view_as(images)).clamp(batch.lower, batch.upper)


def stretched(images: Images, batch: Batch) -> Images:
    """Each perturbation (unless it is zero) scaled to the length ε, then clamped to the box, which may shorten it."""
    change = images - batch.images
    long = length(change, batch.norm)
    factor = torch.where(long > 0, batch.eps / long.clamp_min(torch.finfo(long.dtype).tiny), 0.0)
    return project(batch.images + per_image(factor) * change, batch)


def length(change: Images, norm: Norm) -> PerExample:
    """The size of each perturbation: its largest absolute pixel, its Euclidean length, or the sum of its pixels."""
    flat = change.flatten(1)
    if norm == "l1":
        return flat.abs().sum(1)
    return flat.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(flat, dim=1)


def steepest(gradient: Images, norm: Norm) -> Images:
    """The unit step that increases a linear loss most: the gradient's sign, or the gradient divided by its length.

    In L1 it would change a single pixel. As in SLIDE (Tramèr & Boneh 2019, arXiv 1904.13000) the step is divided among
    the 1 % of the pixels with the largest gradients.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l1":
        return sparse_signs(gradient, gradient.new_full((len(gradient),), SLIDE_SHARE))
    # Divided by its largest entry first, because the squares of a tiny gradient underflow.
    scaled = gradient / per_image(length(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny))
    return scaled / per_image(length(scaled, "l2").clamp_min(1))


SLIDE_SHARE = 0.01
"""The share of the pixels that a step in L1 changes."""


def sparse_signs(gradient: Images, share: PerExample) -> Images:
    """The signs of the largest entries of each gradient, a `share` of all, divided by their number."""
    flat = gradient.flatten(1)
    count = (share * flat.shape[1]).long().clamp(1, flat.shape[1])
    least = flat.abs().sort(1, descending=True).values.gather(1, count[:, None] - 1)
    signs = flat.sign() * (flat.abs() >= least)
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)


def per_image(values: Tensor) -> Tensor:
    """[batch] as [batch, 1, 1, 1]."""
    return values[:, None, None, None]


def random_point(batch: Batch, generator: torch.Generator | None) -> Images:
    """A point of ball ∩ box: uniform in the L∞ ball, or of uniform length in L2 and L1.

    Its direction is uniform in L2, as in TorchAttacks, and that of a Gaussian point in L1.
    """
    shape = tuple(batch.images.shape)
    if batch.norm == "linf":
        return project(batch.images + uniform(batch.images, shape, -batch.eps, batch.eps, generator), batch)
    noise = normal(batch.images, shape, generator)
    direction = steepest(noise, "l2") if batch.norm == "l2" else noise / per_image(length(noise, "l1"))
    radius = uniform(batch.images, (shape[0],), 0.0, batch.eps, generator)
    return project(batch.images + per_image(radius) * direction, batch)


def normal(like: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """N(0, 1) in the given shape, with the device and dtype of `like`, drawn on the device of the generator."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, dtype=like.dtype, device=device, generator=generator).to(like.device)


def uniform(like: Tensor, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """U(low, high) in the given shape, with the device and dtype of `like`, drawn on the device of the generator."""
    device = like.device if generator is None else generator.device
    noise = torch.rand(shape, dtype=like.dtype, device=device, generator=generator)
    return (low + (high - low) * noise).to(like.device)
