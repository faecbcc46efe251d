"""Turns images on demand into what a command needs: readable ones, all of them in memory, or in a file on disk."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grfd import memory, processes
from grfd.data.download import cache
from grfd.data.on_demand import AT_ONCE, KEPT_BYTES, ImagesOnDemand
from grfd.data.preparing import Preparation, prepared_pixels
from grfd.data.record import Data, Pixels, Split, split_on_demand
from grfd.errors import UserError
from grfd.files import is_there, reason
from grfd.folders import partial_of
from grfd.progress import progress, side

_SPARE_BYTES = 2**28
"""Bytes of a disk that a file of images leaves free."""


def readable(split: Split, needed: int | None = None, *, skip_broken: bool = False) -> tuple[Split, int]:
    """The first `needed` images, or all, and the number of broken files that were left out among them.

    Each image is decoded once, so that a broken one is found before any work starts. Raises `BrokenImage`, unless
    `skip_broken`.
    """
    images = split.images
    if not isinstance(images, ImagesOnDemand):
        return split, 0
    if not skip_broken:
        some = split if needed is None else split.take(needed)
        for _ in some.images.split(AT_ONCE):
            pass
        return some, 0
    positions = images.good(needed)
    if not positions:
        _ = images[:1]  # raises the error of the first file
    seen = positions[-1] + 1 if needed is not None and len(positions) >= needed else len(images)
    return Split(images.chosen(positions), split.labels[positions]), seen - len(positions)


def without_broken(data: Data) -> Data:
    """The dataset without its broken files."""
    train, left_of_train = readable(data.train, skip_broken=True)
    test, left_of_test = readable(data.test, skip_broken=True)
    return with_left_out(replace(data, train=train, test=test), left_of_train + left_of_test)


def with_left_out(data: Data, count: int) -> Data:
    """The dataset, whose source says how many broken files were left out. A line is printed, too."""
    if not count:
        return data
    side.print(f"{data.source}: {count} broken file{'s' * (count != 1)} left out")
    return replace(data, source=f"{data.source}, {count} broken left out")


def in_memory(data: Data) -> Data:
    """The dataset with those splits in memory that are not larger than `KEPT_BYTES`. Raises `BrokenImage`."""
    return replace(data, train=_small_in_memory(data.train), test=_small_in_memory(data.test))


def for_training(data: Data, examples: int | None, *, skip_broken: bool = False) -> Data:
    """The dataset as training needs it: each split in memory, or in a file of the user's cache if it is too large.

    `examples`: the number of training images that are used. Raises `UserError` if the disk is too small.
    """
    if not isinstance(data.train.images, ImagesOnDemand) and not isinstance(data.test.images, ImagesOnDemand):
        return data
    if examples is not None and not skip_broken:
        data = replace(data, train=data.train.take(examples))
    for split in (data.train, data.test):
        _check_disk(split.images)
    data = in_memory(without_broken(data) if skip_broken else data)
    return replace(data, train=_on_disk(data.train), test=_on_disk(data.test))


def prepared_data(data: Data, how: Preparation) -> Data:
    """A dataset of tensors whose images are prepared on demand. Raises `UserError` for float images."""
    train, test = _prepared(data.train, how, "train image"), _prepared(data.test, how, "test image")
    return replace(data, train=train, test=test)


def _prepared(split: Split, how: Preparation, who: str) -> Split:
    images = split.images
    if images.dtype != torch.uint8:
        raise UserError("float images cannot be resized or cropped: expected uint8 images, or images of the right size")
    sample = np.zeros(images.shape[1:], np.uint8)
    shape = prepared_pixels(sample, how, f"{who} 0").shape
    if not len(images):
        return Split(torch.empty((0, *shape), dtype=torch.uint8), split.labels)

    def read(index: int) -> np.ndarray:
        return prepared_pixels(images[index].numpy(), how, f"{who} {index}")

    return split_on_demand(ImagesOnDemand(read, range(len(images)), shape), split.labels)


def _is_large(images: Pixels) -> bool:
    return isinstance(images, ImagesOnDemand) and images.numel() > KEPT_BYTES


def _small_in_memory(split: Split) -> Split:
    images = split.images
    return Split(images[:], split.labels) if isinstance(images, ImagesOnDemand) and not _is_large(images) else split


def _check_disk(images: Pixels) -> None:
    """Raises `UserError` if the file for these images does not fit on the disk."""
    if not _is_large(images):
        return
    folder, needed = cache(), images.numel() + _SPARE_BYTES
    there = next(place for place in (folder, *folder.absolute().parents) if is_there(place))
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"the decoded images need {memory.in_words(needed)} in {folder}, and {memory.in_words(free)} are free: "
            "expected more disk space, smaller images (--resize, --crop) or fewer (--train-examples)"
        )


def _on_disk(split: Split) -> Split:
    """The split with its images in a file that the system reads page by page. The file is written once."""
    images = split.images
    if not isinstance(images, ImagesOnDemand):
        return split
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    for mark in images.marks():
        digest.update(mark)
    file = cache() / f"images-{digest.hexdigest()[:32]}.uint8"
    if not is_there(file):
        processes.of_main(lambda: _write(file, images))
    # "c": a write would change a copy in memory, never the file
    return Split(torch.from_numpy(np.memmap(file, np.uint8, "c", shape=tuple(images.shape))), split.labels)


def _write(file: Path, images: ImagesOnDemand) -> None:
    size = images.numel()
    side.print(f"{len(images):,} images are decoded once, into {file} ({memory.in_words(size)})")
    partial = partial_of(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stored: Tensor = torch.from_numpy(np.memmap(partial, np.uint8, "w+", shape=tuple(images.shape)))
        with progress("decode images", len(images)) as advance:
            done = 0
            for batch in images.split(AT_ONCE):
                stored[done : done + len(batch)] = batch
                done += len(batch)
                advance(len(batch), "")
        del stored
        partial.replace(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
