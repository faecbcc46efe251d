"""Independent random streams from one seed. No state is stored: a resumed run names the stream again.

`left_as_found` restores the caller's own streams and other settings of the process.
"""

import hashlib
import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], None]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_num_threads, torch.set_num_threads),
)
"""Getter and setter of PyTorch's settings that a library or a user's model may change."""


def stream_seed(seed: int, *names: str | float) -> int:
    """A 63-bit seed for the stream of these names. Streams with different names are independent."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str | float, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the start of the named stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *names))


@contextmanager
def seeded(seed: int, *names: str | float) -> Iterator[None]:
    """Sets PyTorch's global generators to the start of the named stream. The caller's state is restored afterwards."""
    with _generators_restored():
        torch.manual_seed(stream_seed(seed, *names))
        yield


def _generators_restored() -> AbstractContextManager[None]:
    """Restores the state of the global generators of the CPU and of all accelerators."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return torch.random.fork_rng(devices=())
    return torch.random.fork_rng(devices=range(torch.accelerator.device_count()), device_type=device.type)


@contextmanager
def left_as_found() -> Iterator[None]:
    """Restores the state of the caller's process at the end, because a library must not change its user's settings.

    These are the global random generators of PyTorch, NumPy and Python, PyTorch's default dtype, thread count and
    determinism, `os.environ`, and the filters of `warnings`. Within this context, the default dtype is float32
    and gradients are recorded, whatever the caller chose. Enter it once for each call of the API, not in each step.
    """
    environment, draws, numpy_draws = dict(os.environ), random.getstate(), np.random.get_state()
    settings = [(get(), get, set_to) for get, set_to in _SETTINGS]
    with warnings.catch_warnings(), _generators_restored(), torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            for before, get, set_to in settings:
                if get() != before:
                    set_to(before)
            random.setstate(draws)
            np.random.set_state(numpy_draws)
            _restore(environment)


def _restore(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


@dataclass(frozen=True)
class BatchPart:
    """The examples of this process in a batch that several processes share, and the random stream of the whole batch.

    `first` is the index of its first example, and `total` is the size of the batch.
    """

    first: int
    total: int
    stream: torch.Generator


_SHARE: ContextVar[BatchPart | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: BatchPart) -> Iterator[None]:
    """Within this context, `drawn` returns one process's part of what a single process draws for the whole batch."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def drawn(draw: Callable[[int, torch.Generator | None], Tensor], examples: int) -> Tensor:
    """`draw(examples, generator)`, whose first axis is the batch.

    Under `sharing`, every process draws the same values for the whole batch, and its own part is returned.
    """
    share = _SHARE.get()
    if share is None:
        return draw(examples, None)
    return draw(share.total, share.stream)[share.first : share.first + examples]


def normal_like(values: Tensor) -> Tensor:
    """Standard normal noise [batch, …] for a training step, through `drawn`."""

    def draw(examples: int, generator: torch.Generator | None) -> Tensor:
        shape = (examples, *values.shape[1:])
        return torch.randn(shape, generator=generator, device=values.device, dtype=values.dtype)

    return drawn(draw, len(values))
