"""Images that are decoded when they are asked for: only labels and names of a large split are held in memory.

`ImagesOnDemand` answers like a tensor to `shape`, `dtype`, `len` and to indices, whose result is a tensor. Batches are
decoded by threads. While a batch is in use, the next one is decoded. The first images are kept, up to `KEPT_BYTES`.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grfd.data.image_file import BrokenImage, without_warnings
from grfd.errors import UserError

KEPT_BYTES = 2**30
"""Bytes of decoded images that are kept. A split that is not larger stays in memory."""
AT_ONCE = 256
"""Number of images that are decoded at once where a whole split is read."""
THREADS = 4


@dataclass
class _Source:
    """Where the images come from, and those that are decoded already. Views of one split share it."""

    read: Callable[[int], np.ndarray]
    shape: tuple[int, ...]
    facts: Callable[[int], str] | None = None
    kept: dict[int, Tensor] = field(default_factory=dict)
    coming: dict[int, Future[np.ndarray]] = field(default_factory=dict)
    pool: ThreadPoolExecutor | None = None

    def threads(self) -> ThreadPoolExecutor:
        self.pool = self.pool or ThreadPoolExecutor(THREADS, "images")
        return self.pool

    def has_room(self) -> bool:
        return (len(self.kept) + 1) * int(np.prod(self.shape)) <= KEPT_BYTES


class ImagesOnDemand:
    """Some of the images of a source, uint8 [n, channel, height, width].

    `read`: index → uint8 [channel, height, width]; it runs in threads, and checks the shape itself. `facts`: index →
    a text that changes with the pixels, such as a file's name and time; None if only the pixels tell.
    """

    dtype = torch.uint8
    device = torch.device("cpu")
    ndim = 4

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        rows: Sequence[int],
        shape: tuple[int, ...],
        facts: Callable[[int], str] | None = None,
    ) -> None:
        self._source = _Source(read, tuple(shape), facts)
        self._rows = rows

    def _view(self, rows: Sequence[int]) -> "ImagesOnDemand":
        view = ImagesOnDemand(self._source.read, rows, self._source.shape)
        view._source = self._source
        return view

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self._source.shape))

    def numel(self) -> int:
        return self.shape.numel()

    def take(self, count: int) -> "ImagesOnDemand":
        """The first images, still not decoded."""
        return self._view(self._rows[:count])

    def chosen(self, positions: Sequence[int]) -> "ImagesOnDemand":
        """The images at these positions, still not decoded."""
        return self._view([self._rows[position] for position in positions])

    def __getitem__(self, index: Any) -> Tensor:
        """One image or several, as a tensor."""
        if isinstance(index, slice):
            positions = range(len(self))[index]
            images = self._decoded([self._rows[position] for position in positions])
            if positions.step == 1 and len(positions):
                self._start(range(positions.stop, min(positions.stop + len(positions), len(self))))
            return images
        if isinstance(index, Tensor | np.ndarray | list):
            listed = torch.as_tensor(index)
            positions_of = listed.nonzero().flatten() if listed.dtype == torch.bool else listed
            return self._decoded([self._rows[position] for position in positions_of.tolist()])
        return self._decoded([self._rows[operator.index(index)]])[0]

    def split(self, count: int) -> Iterator[Tensor]:
        """The images in batches."""
        return (self[start : start + count] for start in range(0, len(self), count))

    def good(self, needed: int | None = None) -> list[int]:
        """The positions of images that can be read, until `needed` of them are found. Later ones are not decoded."""
        found: list[int] = []
        wanted, start = len(self) if needed is None else needed, 0
        while len(found) < wanted and start < len(self):
            block = range(start, min(start + AT_ONCE, start + wanted - len(found), len(self)))
            self._start(block)
            found += [position for position in block if self._is_good(self._rows[position])]
            start = block.stop
        return found

    def marks(self) -> Iterator[bytes]:
        """What changes with the pixels: a fact of each image, or else the pixels of some."""
        source = self._source
        if source.facts is not None:
            yield from (source.facts(row).encode() for row in self._rows)
        else:
            yield from (self[position].numpy().tobytes() for position in range(0, len(self), len(self) // 16 + 1))

    def _is_good(self, row: int) -> bool:
        try:
            self._decoded([row])
        except BrokenImage:
            return False
        return True

    def _decoded(self, rows: list[int]) -> Tensor:
        source = self._source
        images = _room(len(rows), source.shape)
        missing: list[tuple[int, int]] = []
        for position, row in enumerate(rows):
            if row in source.kept:
                images[position] = source.kept[row]
            else:
                missing.append((position, row))
        with without_warnings():
            for start in range(0, len(missing), AT_ONCE):
                self._decode(images, missing[start : start + AT_ONCE])
        return images

    def _decode(self, images: Tensor, wanted: list[tuple[int, int]]) -> None:
        """Decodes the rows of `wanted`, (position, row), into their positions."""
        source = self._source
        tasks = [
            source.coming.pop(row) if row in source.coming else source.threads().submit(source.read, row)
            for _, row in wanted
        ]
        try:
            for (position, row), task in zip(wanted, tasks, strict=True):
                images[position] = torch.from_numpy(np.ascontiguousarray(task.result()))
                if source.has_room():
                    source.kept[row] = images[position].clone()
        finally:
            for task in tasks:
                task.cancel()

    def _start(self, positions: range) -> None:
        """Starts to decode the images at these positions, which are probably needed next."""
        source = self._source
        for row in [self._rows[position] for position in positions]:
            if row not in source.kept and row not in source.coming:
                source.coming[row] = source.threads().submit(source.read, row)


def _room(count: int, shape: tuple[int, ...]) -> Tensor:
    try:
        return torch.empty((count, *shape), dtype=torch.uint8)
    except RuntimeError as error:  # what PyTorch raises where memory is short
        raise UserError(
            f"{count} images of {tuple(shape)} do not fit in memory; expected fewer or smaller ones"
        ) from error


def joined_images(first: ImagesOnDemand, second: ImagesOnDemand) -> ImagesOnDemand:
    """The images of two sources, one behind the other. Both have the same shape."""
    count = len(first)

    def read(index: int) -> np.ndarray:
        images, position = (first, index) if index < count else (second, index - count)
        return images._source.read(images._rows[position])

    return ImagesOnDemand(read, range(count + len(second)), tuple(first.shape[1:]))
