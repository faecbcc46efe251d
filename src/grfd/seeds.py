"""Independent random streams from one seed, without state to store: a run resumes by naming the stream again."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
