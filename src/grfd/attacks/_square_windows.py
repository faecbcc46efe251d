"""The proposals of the Square attack in L2 and L1.

L2: Andriushchenko et al. 2020, arXiv 1912.00049, section 3.4, algorithm 3. L1: Croce & Hein 2021, arXiv 2103.01208.
"""

import torch
from torch import Tensor

from grfd.attacks.threat import Batch, Norm, length, per_image, project, uniform
from grfd.types import Images

_BUMPS_PER_SIDE = 5
"""Number of bumps along each side of the image in the first proposal."""

_SMALLEST_WINDOW = 3
"""Windows have an odd side of at least this length, where the image is large enough."""

_TINY = 1e-12


def start_on_grid(batch: Batch, generator: torch.Generator | None) -> Images:
    """Bumps on a grid, with a random sign for each channel and the total length ε."""
    images = batch.images
    count, channels, height, width = images.shape
    side = max(min(height, width) // _BUMPS_PER_SIDE, 1)
    shape = _bumps(side, images, batch.norm)
    change = torch.zeros_like(images)
    for top in range(height % side // 2, height - side + 1, side):
        for left in range(width % side // 2, width - side + 1, side):
            bump = _turned(shape, count, generator) * random_signs(images, (count, channels, 1, 1), generator)
            change[:, :, top : top + side, left : left + side] = bump
    return _of_length(change, batch)


def move_window(current: Images, batch: Batch, side: int, generator: torch.Generator | None) -> Images:
    """Empties one window of the perturbation, and gives its length and the unused part of ε to another window."""
    images = batch.images
    count, channels, height, width = images.shape
    side = min(max(side, _SMALLEST_WINDOW) | 1, height, width)
    change = current - images
    to, away = (_window(images, side, generator) for _ in range(2))
    old = change[to]
    old_length = _window_length(old, batch.norm)
    both = torch.zeros_like(change[:, :1], dtype=torch.bool)
    for window in (to, away):
        both[(window[0], torch.zeros_like(window[1][:, :1]), *window[2:])] = True
    target = _length_to_give(change, both, batch)
    shape = _bumps(side, images, batch.norm)
    bump = _turned(shape, count, generator) * random_signs(images, (count, channels, 1, 1), generator)
    new = bump + old / (old_length + _TINY)
    new_length = _window_length(new, batch.norm)
    change = change.clone()
    change[away] = 0.0
    change[to] = new / (new_length + _TINY) * target
    return _of_length(change, batch)


def _length_to_give(change: Images, both: Tensor, batch: Batch) -> Tensor:
    """[batch, channels, 1, 1]: the length that one window receives in each channel.

    In L1 this is more than is left, because the box cuts off much of it. The projection shortens the rest.
    """
    channels = change.shape[1]
    if batch.norm == "l1":
        unused = per_image((batch.eps - length(change, "l1")).clamp_min(0))
        return unused + channels * _window_length(change * both, "l1")
    spent = (change * both).square().sum((2, 3), keepdim=True)
    unused = per_image((batch.eps**2 - length(change, "l2").square()).clamp_min(0))
    return (unused / channels + spent).sqrt()


def _window_length(change: Images, norm: Norm) -> Tensor:
    """[batch, channels, 1, 1]: the length in each channel."""
    return change.abs().sum((2, 3), keepdim=True) if norm == "l1" else change.square().sum((2, 3), keepdim=True).sqrt()


def _of_length(change: Images, batch: Batch) -> Images:
    if batch.norm == "l1":
        return project(batch.images + change, batch)
    return project(batch.images + change * per_image(batch.eps / (length(change, "l2") + _TINY)), batch)


def _window(images: Images, side: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Indices of one window per image, at a uniformly drawn place."""
    count, channels, height, width = images.shape
    draws = uniform(images, (2, count), 0.0, 1.0, generator)
    top, left = (
        (draw * (size - side + 1)).long().clamp_max(size - side)
        for draw, size in zip(draws, (height, width), strict=True)
    )
    reach = torch.arange(side, device=images.device)
    return (
        torch.arange(count, device=images.device)[:, None, None, None],
        torch.arange(channels, device=images.device)[None, :, None, None],
        (top[:, None] + reach)[:, None, :, None],
        (left[:, None] + reach)[:, None, None, :],
    )


def _bumps(side: int, like: Images, norm: Norm) -> Tensor:
    """[side, side], of length 1: one half is a hill, the other half a valley (η of section 3.4)."""
    upper, lower = _hill(side // 2, side, like, norm), -_hill(side - side // 2, side, like, norm)
    both = torch.cat([upper, lower])
    return both / _size(both, norm)


def _hill(height: int, width: int, like: Images, norm: Norm) -> Tensor:
    """A sum of nested rectangles, the k-th of height 1/k², or in L1 1/k⁴: a steeper hill changes fewer pixels."""
    hill = torch.zeros(height, width, dtype=like.dtype, device=like.device)
    top, left = height // 2, width // 2
    for ring in range(max(top, left) + 1):
        rows = slice(max(top - ring, 0), min(top + ring + 1, height))
        columns = slice(max(left - ring, 0), min(left + ring + 1, width))
        hill[rows, columns] += 1 / (ring + 1) ** (4 if norm == "l1" else 2)
    return hill / _size(hill, norm).clamp_min(_TINY)


def _size(window: Tensor, norm: Norm) -> Tensor:
    return window.abs().sum() if norm == "l1" else window.square().sum().sqrt()


def _turned(shape: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """[batch, 1, side, side]: the halves are above or beside each other, as drawn for each image."""
    beside = uniform(shape, (count, 1, 1, 1), 0.0, 1.0, generator) > 0.5
    return torch.where(beside, shape.T, shape)


def random_signs(like: Images, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """±1 with equal probability, in the given shape."""
    return torch.where(uniform(like, shape, -1.0, 1.0, generator) < 0, -1, 1)
