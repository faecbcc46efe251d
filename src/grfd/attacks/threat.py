"""The ball around each image: projection, steps of unit length, and random points."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from grfd.types import Images, Labels, PerExample

Norm = Literal["linf", "l2"]
"""What ε bounds: the largest change of a pixel, or the Euclidean length of the change."""

Rows = Int[Tensor, "rows"]
"""Indices of the examples of a batch that are still attacked."""


class Batch(NamedTuple):
    """What is attacked: images, labels, the ball, and the corners of L∞ ball ∩ box, to which iterates are clamped.

    `eps` is in pixels of [0, 1], or for `norm` "l2" a Euclidean length. `dtype` is that of the caller's images. Images
    in half precision are attacked in float32, because their squares and quotients would overflow or underflow.
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
    """Onto ball ∩ box. For L2, first onto the ball and then into the box, which moves no point out of the ball."""
    if batch.norm == "l2":
        change = images - batch.images
        longest = (batch.eps / length(change, "l2").clamp_min(torch.finfo(change.dtype).tiny)).clamp_max(1)
        images = batch.images + per_image(longest) * change
    return images.clamp(batch.lower, batch.upper)


def stretched(images: Images, batch: Batch) -> Images:
    """Each perturbation (unless it is zero) scaled to the length ε, then clamped to the box, which may shorten it."""
    change = images - batch.images
    long = length(change, batch.norm)
    factor = torch.where(long > 0, batch.eps / long.clamp_min(torch.finfo(long.dtype).tiny), 0.0)
    return project(batch.images + per_image(factor) * change, batch)


def length(change: Images, norm: Norm) -> PerExample:
    """The size of each perturbation: its largest absolute pixel, or its Euclidean length."""
    flat = change.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(flat, dim=1)


def steepest(gradient: Images, norm: Norm) -> Images:
    """The unit step that increases a linear loss most: the gradient's sign, or the gradient divided by its length."""
    if norm == "linf":
        return gradient.sign()
    # Divided by its largest entry first, because the squares of a tiny gradient underflow.
    scaled = gradient / per_image(length(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny))
    return scaled / per_image(length(scaled, "l2").clamp_min(1))


def per_image(values: Tensor) -> Tensor:
    """[batch] as [batch, 1, 1, 1]."""
    return values[:, None, None, None]


def random_point(batch: Batch, generator: torch.Generator | None) -> Images:
    """A point of ball ∩ box: uniform in the L∞ ball, or of uniform direction and length in L2, as in TorchAttacks."""
    shape = tuple(batch.images.shape)
    if batch.norm == "linf":
        return project(batch.images + uniform(batch.images, shape, -batch.eps, batch.eps, generator), batch)
    direction = steepest(normal(batch.images, shape, generator), "l2")
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
