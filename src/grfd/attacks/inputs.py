"""The frame of every attack: its inputs are checked, and the model's parameters are frozen while it runs."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import get_args

import torch
from torch import Tensor, nn

from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.ranges import NOT_NEGATIVE, in_range, is_infinite
from grfd.attacks.threat import Batch, Norm
from grfd.errors import UserError
from grfd.types import Images, Labels, Logits

Model = Callable[[Images], Logits]

_PIXEL_TOLERANCE = 1e-6
"""By how much pixels may lie outside the box, as after a resize or an inverted normalisation. They are clamped."""


@contextmanager
def attacking(
    model: Model, images: Images, labels: Labels, eps: float, bounds: tuple[float, float], norm: Norm = "linf"
) -> Iterator[tuple[CheckedModel, Batch]]:
    """Checks the input, freezes the model, and yields the model as attacks call it and the batch with its ball.

    Clamping to precomputed corners keeps iterates exactly inside L∞ ball and box. Raises UserError for an input that
    cannot be attacked.
    """
    _check(images, labels, bounds, norm)
    _check_eps(eps, bounds, norm)
    with _prepared(model, images, labels, eps, bounds, norm) as prepared:
        yield prepared


@contextmanager
def searching(
    model: Model, images: Images, labels: Labels, eps: float, bounds: tuple[float, float], norm: Norm = "linf"
) -> Iterator[tuple[CheckedModel, Batch]]:
    """As `attacking`, for attacks that search for the smallest perturbation: ε may be ∞.

    Then only the box limits a perturbation. Raises UserError for an input that cannot be attacked.
    """
    _check(images, labels, bounds, norm)
    if not is_infinite(eps):
        _check_eps(eps, bounds, norm)
    with _prepared(model, images, labels, eps, bounds, norm) as prepared:
        yield prepared


def check_stretch(eps: float, stretch: bool) -> None:
    """Raises UserError if perturbations should be scaled to an infinite length."""
    if stretch and is_infinite(eps):
        raise UserError(f"stretch=True and eps={eps}; expected a finite eps, to which perturbations are scaled")


@contextmanager
def _prepared(
    model: Model, images: Images, labels: Labels, eps: float, bounds: tuple[float, float], norm: Norm
) -> Iterator[tuple[CheckedModel, Batch]]:
    # Tensors created under inference_mode cannot be saved for a backward pass. Copies created outside it can.
    with torch.inference_mode(False), torch.no_grad(), frozen(model):
        dtype = images.dtype
        working = torch.promote_types(dtype, torch.float32)
        images = images.detach().to(working, copy=True).clamp(*bounds)
        labels = labels.detach().to(images.device, torch.long, copy=True)
        largest = int(labels.max()) if len(labels) else 0
        checked = model if isinstance(model, CheckedModel) else CheckedModel(model, dtype, largest)
        # In L1, the projection keeps every pixel within ε, and attacks pass through balls larger than ε.
        reach = math.inf if norm == "l1" else eps
        lower, upper = (images - reach).clamp(*bounds), (images + reach).clamp(*bounds)
        yield checked, Batch(images, labels, lower, upper, eps, norm, dtype)


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Inside, no parameter requires a gradient. Afterwards, also after an exception, all parameters are as before."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    thawed = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in thawed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


def _check(images: Images, labels: Labels, bounds: tuple[float, float], norm: str) -> None:
    if norm not in get_args(Norm):
        raise UserError(f"{norm=}; expected 'linf', 'l2' or 'l1'")
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        shape = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise UserError(f"images are {shape}; expected floats [batch, channel, height, width]")
    _check_labels(labels, len(images))
    _check_bounds(bounds)
    low, high = (bound.item() for bound in images.detach().aminmax()) if images.numel() else bounds
    excess = max(bounds[0] - low, high - bounds[1])
    if not excess <= _PIXEL_TOLERANCE:
        raise UserError(
            f"images reach from {low:.9g} to {high:.9g}, {excess:.3g} outside the box; expected {list(bounds)}"
        )


def _check_eps(eps: float, bounds: tuple[float, float], norm: str) -> None:
    largest_eps = bounds[1] - bounds[0] if norm == "linf" else math.inf
    in_range(eps=(eps, NOT_NEGATIVE))
    if eps > largest_eps:
        raise UserError(
            f"eps={eps:g}; expected at most {largest_eps:g}, the range of a pixel (did you mean {eps:g}/255?)"
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
