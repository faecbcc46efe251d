"""How many images go through a model in one pass, so that what a gradient needs fits into the free memory.

The bytes that one image's forward pass keeps for its backward pass are counted exactly. A batch that does not fit is
differentiated in passes, one after the other. Its results do not depend on the size of a pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from grfd.memory import available
from grfd.types import Images, Logits

_SHARE = 0.25
"""The share of the free memory that one pass may keep. Layers need as much again while they compute."""

_MOST_ON_CPU = 256
"""Number of images in one pass on a CPU, at most. The features of more images do not fit into its cache."""

_BYTES_ON_CPU = 2**30
"""What one pass keeps on a CPU, at most, however much memory is free: larger passes are no faster there."""

_limit: ContextVar[int | None] = ContextVar("_limit", default=None)
_counting: ContextVar[bool] = ContextVar("_counting", default=True)


@contextmanager
def passes_of(images: int | None) -> Iterator[None]:
    """Inside, attacks differentiate at most this number of images at a time. None: no limit."""
    token = _limit.set(images)
    try:
        yield
    finally:
        _limit.reset(token)


def pass_limit() -> int | None:
    """The limit that `passes_of` sets here."""
    return _limit.get()


@contextmanager
def not_counted() -> Iterator[None]:
    """Inside, passes are repeated only to save memory, so models that count their passes do not count these."""
    token = _counting.set(False)
    try:
        yield
    finally:
        _counting.reset(token)


def is_counting() -> bool:
    """Whether a model that counts its passes should count this one."""
    return _counting.get()


def bytes_kept(model: Callable[[Images], Logits], image: Images) -> int:
    """The bytes that autograd keeps for each further image: those of two images less those of one.

    `image`: [1, channel, height, width]. Weights are kept once for any number of images, so the difference is without
    them. PyTorch's random streams are left as they were.
    """
    one, two = (_bytes_of(model, image.repeat(count, 1, 1, 1)) for count in (1, 2))
    return max(two - one, 0)


def _bytes_of(model: Callable[[Images], Logits], images: Images) -> int:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            # the answer is held until the end, because memory that is freed may be used again under the same address
            answer = model(images.detach().clone().requires_grad_())
        del answer
    return sum(kept.values())


def images_in_a_pass(model: Callable[[Images], Logits], image: Images) -> int | None:
    """How many images fit into a quarter of the free memory, at least 1. None where a GPU's system does not say.

    On a CPU a pass keeps at most a gibibyte.
    """
    free, on_cpu = available(image.device), image.device.type == "cpu"
    if free is None and not on_cpu:
        return None
    room = int(_SHARE * free) if free is not None else _BYTES_ON_CPU
    most, room = (_MOST_ON_CPU, min(room, _BYTES_ON_CPU)) if on_cpu else (10**9, room)
    return max(1, min(most, room // max(bytes_kept(model, image), 1)))
