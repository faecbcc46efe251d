"""Refuses trainings that cannot work, in one line: batches of a bad size, weights out of range, too little memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from grfd import memory, processes
from grfd.config import Config
from grfd.data.record import Split, as_images
from grfd.errors import Diverged, UserError
from grfd.files import reason
from grfd.seeds import left_as_found

_LARGEST_WEIGHT = 1e18
"""Products of larger weights overflow float32, and the logits of such a network are not finite."""

_SHARE_OF_WEIGHTS = 0.75
"""The share of free memory that weights, gradients and moments may take."""
_BYTES_A_PARAMETER = 16
"""The weight, its gradient and the two moments of AdamW, in float32."""


def batch_sizes(total: int, batch: int) -> list[int]:
    """The number of images in each step of an epoch. A single last image joins the batch before it.

    Batch norm cannot normalise a single image where a channel has one value per image.
    """
    whole, last = divmod(total, batch)
    if last == 1 and whole and batch > 1:
        return [batch] * (whole - 1) + [batch + 1]
    return [batch] * whole + [last] * (last > 0)


def smallest_pass(total: int, config: Config) -> int:
    """The number of images in the smallest pass of an epoch, apart from empty passes."""
    shares = [share for size in {*batch_sizes(total, config.batch)} if (share := size // processes.count())]
    return min((share // min(config.passes, share) for share in shares), default=1)


def check_passes(config: Config, split: Split, network: Callable[[], nn.Module]) -> None:
    """Raises `UserError` where passes have one image and the batch norm of the network cannot process it."""
    if smallest_pass(len(split), config) > 1:
        return
    with left_as_found(), torch.no_grad(), pass_errors_explained("training", 1):
        network().train()(as_images(split.images[:1].clone()))


@contextmanager
def pass_errors_explained(name: str, images: int) -> Iterator[None]:
    """Turns errors that come from the number of images in a pass into a `UserError`."""
    try:
        yield
    except ValueError as error:
        if images > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"{name}: batch norm cannot learn from {images} image{'s' * (images != 1)} at once; choose a batch, passes "
            "and processes that leave at least two images for each pass"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise UserError(
            f"{name}: there is not enough memory for {images} images at once; choose a smaller batch, or more passes"
        ) from error


def refuse_unbounded(name: str, module: nn.Module, epoch: int, folder: Path) -> None:
    """Raises `Diverged` where a weight is not finite, or so large that logits would not be."""
    for weight_name, weight in module.named_parameters():
        largest = float(weight.detach().abs().max()) if weight.numel() else 0.0
        if not largest <= _LARGEST_WEIGHT:
            raise Diverged(
                f"{name}: a weight of {weight_name} is {largest:g} after epoch {epoch + 1}; the last whole epoch is "
                f"kept in {folder}. A lower learning rate keeps it finite"
            )


def check_memory(name: str, build: Callable[[], nn.Module], config: Config) -> None:
    """Raises `UserError` where weights, gradients and moments need more than three quarters of the free memory.

    The optimiser's step and the features of a batch need the rest.

    The network is built on PyTorch's meta device, which takes no memory and draws no random numbers.
    """
    try:
        with torch.device("meta"):
            parameters = sum(each.numel() for each in build().parameters())
    except (RuntimeError, OverflowError, TypeError) as error:  # more parameters than 64 bits can count
        raise UserError(f"{name} cannot be built: {reason(error)}") from error
    free, needed = memory.available(_device(config)), _BYTES_A_PARAMETER * parameters
    if free is not None and needed > _SHARE_OF_WEIGHTS * free:
        raise UserError(
            f"{name} has {parameters:,} parameters: training it needs {memory.in_words(needed)} for weights, gradients "
            f"and AdamW's moments, and at most three quarters of the {memory.in_words(free)} that are available"
        )


def _device(config: Config) -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if config.device == "cpu" or accelerator is None else accelerator
