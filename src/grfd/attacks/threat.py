"""The ball around each image: projection, steps of unit length, and random points."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grfd.types import Images, Labels, PerExample

Norm = Literal["linf", "l2", "l1"]
"""What ε bounds: the largest change of a pixel, the Euclidean length of the change, or the sum of absolute changes."""

DUAL_ORDER: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": math.inf}
"""The order of the dual norm: a linear loss changes at most by the gradient's length in it, per unit of the norm."""

_SPARSE_SHARE = 0.01
"""The share of the pixels that a step in L1 changes (SLIDE, Tramèr & Boneh 2019, arXiv 1904.13000: 1 % on MNIST)."""

FlatChange = Float[Tensor, "batch pixels"]
"""A change of each image, flattened."""

Rows = Int[Tensor, "rows"]
"""Indices of the examples of a batch that are still attacked."""


class Batch(NamedTuple):
    """What is attacked: images, labels, the ball, and the corners of L∞ ball ∩ box, to which iterates are clamped.

    `eps` is in pixels of [0, 1], or for `norm` "l2" a Euclidean length, or for "l1" a sum of absolute changes. In L1
    the corners are those of the box, because balls of several radii share them. `dtype` is that of the caller's images.
    Images in half precision are attacked in float32, because their squares and quotients would overflow or underflow.
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

    For L1, the result is the nearest point of the intersection (`onto_l1_ball`).
    """
    if batch.norm == "l1":
        change = (images - batch.images).flatten(1)
        room = torch.where(images > batch.images, batch.upper - batch.images, batch.images - batch.lower).flatten(1)
        radius = torch.full_like(change[:, 0], batch.eps)
        change = onto_l1_ball(change, room, radius)
        # where ε is tiny beside the change, rounding leaves a sum above it
        shorter = (batch.eps / change.abs().sum(1).clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1)
        images = batch.images + (shorter[:, None] * change).view_as(images)
    if batch.norm == "l2":
        change = images - batch.images
        longest = (batch.eps / length(change, "l2").clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1)
        images = batch.images + per_image(longest) * change
    return images.clamp(batch.lower, batch.upper)


def onto_l1_ball(change: FlatChange, room: FlatChange, radius: PerExample) -> FlatChange:
    """The nearest change with a sum of at most `radius`, where no entry is larger than its room, in absolute values.

    Croce & Hein 2021, arXiv 2103.01208, proposition 2.1: entry i becomes sign(change_i)·min(max(|change_i| − λ, 0),
    room_i) with one λ ≥ 0 for each row. The sum falls piecewise linearly in λ. An entry begins to count below
    λ = |change_i| and reaches its room at λ = |change_i| − room_i, so the sum at these 2n places is known after they
    are sorted. The room may be ∞. change, room: [batch, pixels]; radius: [batch].
    """
    magnitudes = change.abs()
    places, order = torch.cat([magnitudes, (magnitudes - room).clamp_min(0)], 1).sort(1, descending=True)
    counted = torch.where(order < change.shape[1], 1.0, -1.0).to(change).cumsum(1)
    gaps = places.diff(dim=1, append=torch.zeros_like(places[:, :1])).neg()
    sums = (counted * gaps).cumsum(1)
    # The first piece at whose lower end the sum reaches the radius. Inside the ball there is none, and λ is 0.
    piece = torch.searchsorted(sums, radius[:, None]).clamp_max(sums.shape[1] - 1)
    excess, slope = sums.gather(1, piece) - radius[:, None], counted.gather(1, piece).clamp_min(1)
    threshold = (places - gaps).gather(1, piece) + excess.clamp_min(0) / slope
    # One Newton step removes the rounding errors of the long sums.
    kept = (magnitudes - threshold).clamp_min(0).minimum(room)
    moving = ((kept > 0) & (kept < room)).sum(1, keepdim=True).clamp_min(1)
    threshold = (threshold + (kept.sum(1, keepdim=True) - radius[:, None]) / moving).clamp_min(0)
    return (magnitudes - threshold).clamp_min(0).minimum(room) * change.sign()


def stretched(images: Images, batch: Batch) -> Images:
    """Each perturbation (unless it is zero) scaled to the length ε, then clamped to the box, which may shorten it."""
    change = images - batch.images
    long = length(change, batch.norm)
    factor = torch.where(long > 0, batch.eps / long.clamp_min(torch.finfo(long.dtype).tiny), 0.0)
    return project(batch.images + per_image(factor) * change, batch)


def length(change: Images, norm: Norm) -> PerExample:
    """The size of each perturbation: its largest absolute pixel, its Euclidean length, or the sum of its magnitudes."""
    flat = change.flatten(1)
    if norm == "l1":
        return flat.abs().sum(1)
    return flat.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(flat, dim=1)


def steepest(gradient: Images, norm: Norm) -> Images:
    """The unit step that increases a linear loss most: the gradient's sign, or the gradient divided by its length.

    In L1 that would change a single pixel, which the box soon stops. So the step is shared equally between the one per
    cent of the pixels with the largest gradients, as in SLIDE.
    """
    if norm == "l1":
        return sparse_signs(gradient, torch.full_like(gradient[:, 0, 0, 0], _SPARSE_SHARE))
    if norm == "linf":
        return gradient.sign()
    # Divided by its largest entry first, because the squares of a tiny gradient underflow.
    scaled = gradient / per_image(length(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny))
    return scaled / per_image(length(scaled, "l2").clamp_min(1))


def sparse_signs(gradient: Images, share: PerExample) -> Images:
    """The signs of the largest gradients divided by their number, and 0 elsewhere: a step of length 1 in L1.

    `share` [batch]: the share of the entries that are not 0, at least one entry.
    """
    magnitudes = gradient.flatten(1).abs()
    count = magnitudes.shape[1]
    place = ((1 - share) * count).long().clamp(0, count - 1)
    threshold = magnitudes.sort(1).values.gather(1, place[:, None])
    signs = gradient.flatten(1).sign() * (magnitudes >= threshold)
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)


def per_image(values: Tensor) -> Tensor:
    """[batch] as [batch, 1, 1, 1]."""
    return values[:, None, None, None]


def random_point(batch: Batch, generator: torch.Generator | None) -> Images:
    """A point of ball ∩ box: uniform in the L∞ ball, or of uniform direction and length in L2, as in TorchAttacks.

    In L1, the direction is uniform in the Euclidean sense, too, and the length is uniform up to ε.
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
