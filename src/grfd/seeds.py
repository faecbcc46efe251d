"""Independent random streams from one seed, without state to store: a run resumes by naming the stream again."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


def stream_seed(seed: int, *names: str | float) -> int:
    """A 63-bit seed for the stream that `names` name; streams of different names are unrelated."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str | float, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the start of the named stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *names))


@contextmanager
def seeded(seed: int, *names: str | float) -> Iterator[None]:
    """PyTorch's global generators at the start of the named stream; the caller's state is restored after."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, *names))
        yield


@dataclass(frozen=True)
class Share:
    """This process's examples of a batch that several processes work on, and the stream of the whole batch's draws."""

    first: int
    total: int
    stream: torch.Generator


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Within, `drawn` makes one process's part of what a single process would draw for the whole batch."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def drawn(draw: Callable[[int, torch.Generator | None], Tensor], examples: int) -> Tensor:
    """`draw(examples, generator)`, whose first axis is the batch.

    Under `sharing` it is drawn for the whole batch, alike in every process, and this process's part of it is returned.
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
