"""What stops a training in one line: batches too small or too large, weights that left float32, too little memory."""

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
"""Beyond it the product of two weights leaves float32: such a network has no finite logits."""

_BYTES_A_PARAMETER = 16
"""Weight, gradient, and AdamW's two moments, in float32."""


def batch_sizes(total: int, batch: int) -> list[int]:
    """The images of each step of an epoch. A last image that would be alone joins the batch before it.

    Batch norm has nothing to normalise a single image with, where a channel has one value an image.
    """
    whole, last = divmod(total, batch)
    if last == 1 and whole and batch > 1:
        return [batch] * (whole - 1) + [batch + 1]
    return [batch] * whole + [last] * (last > 0)


def smallest_pass(total: int, config: Config) -> int:
    """The images of the smallest pass of an epoch that has any."""
    shares = [share for size in {*batch_sizes(total, config.batch)} if (share := size // processes.count())]
    return min((share // min(config.passes, share) for share in shares), default=1)


def check_passes(config: Config, split: Split, network: Callable[[], nn.Module]) -> None:
    """Raises `UserError` where the training has passes of one image, and batch norm in the network cannot take them."""
    if smallest_pass(len(split), config) > 1:
        return
    with left_as_found(), torch.no_grad(), pass_errors_explained("training", 1):
        network().train()(as_images(split.images[:1].clone()))


@contextmanager
def pass_errors_explained(name: str, images: int) -> Iterator[None]:
    """What the number of images in a pass makes impossible becomes a `UserError`."""
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
    """Raises `Diverged` where a weight is not finite, or too large to be multiplied."""
    for weight_name, weight in module.named_parameters():
        largest = float(weight.detach().abs().max()) if weight.numel() else 0.0
        if not largest <= _LARGEST_WEIGHT:
            raise Diverged(
                f"{name}: a weight of {weight_name} is {largest:g} after epoch {epoch + 1}; the last whole epoch is "
                f"kept in {folder}. A lower learning rate keeps it finite"
            )


def check_memory(name: str, build: Callable[[], nn.Module], config: Config) -> None:
    """Raises `UserError` where weights, gradients and AdamW's moments of a network exceed the memory that is free.

    The network is built on PyTorch's meta device, so without memory, and without drawing random numbers.
    """
    try:
        with torch.device("meta"):
            parameters = sum(each.numel() for each in build().parameters())
    except (RuntimeError, OverflowError, TypeError) as error:  # more numbers than 64 bits can count
        raise UserError(f"{name} cannot be built: {reason(error)}") from error
    free, needed = memory.available(_device(config)), _BYTES_A_PARAMETER * parameters
    if free is not None and needed > free:
        raise UserError(
            f"{name} has {parameters:,} parameters: training it needs {memory.in_words(needed)} for weights, gradients "
            f"and AdamW's moments, and {memory.in_words(free)} are available"
        )


def _device(config: Config) -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if config.device == "cpu" or accelerator is None else accelerator
