"""The form of every dataset: two splits of tensors and class names, with the checks that run before any training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from grfd.data.given import as_tensor, described_value
from grfd.data.on_demand import ImagesOnDemand, joined_images
from grfd.errors import UserError
from grfd.types import Images, StoredImages

if TYPE_CHECKING:  # images on demand answer like a tensor wherever the package uses a split
    Pixels = Tensor
else:
    Pixels = Tensor | ImagesOnDemand

_INTEGERS = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
MOST_CLASSES = 2**16
"""The largest number of classes, each of which is an output of a network. ImageNet-21k has 21,841."""
_ROUNDING = 1e-6
"""How far float32 pixels may lie outside [0, 1]: eight steps of float32 next to 1."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    `images`: uint8 [n, c, h, w] in 0…255, as stored, or float32 [n, c, h, w] in [0, 1]; a tensor, or `ImagesOnDemand`,
    whose slices are tensors. `labels`: int64 [n].
    """

    images: Pixels
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, n: object) -> "Split":
        """The first `n` examples, or all where there are fewer. Raises UserError for no integer, and for n < 1."""
        if not isinstance(n, int | np.integer) or isinstance(n, bool):
            raise UserError(f"cannot take {described_value(n)} examples: expected an integer")
        if n < 1:
            raise UserError(f"cannot take {described_value(n)} examples: expected at least 1")
        count = min(int(n), len(self))
        images = self.images.take(count) if isinstance(self.images, ImagesOnDemand) else self.images[:count]
        return Split(images, self.labels[:count])


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset. Label i means `classes[i]`; `source` says where the images come from.

    A dataset that is only judged may have no training images: then `train` is empty.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str


def as_images(pixels: StoredImages) -> Images:
    """Converts uint8 [n, c, h, w] to float32 in [0, 1], dividing by 255. Float images are returned unchanged."""
    if pixels.dtype == torch.uint8:
        return pixels.to(torch.float32).div_(255)
    return pixels


def split_on_demand(images: ImagesOnDemand, labels: Tensor) -> Split:
    """A split whose images are decoded when they are used."""
    return Split(images, labels)  # type: ignore[arg-type]


def no_images(like: Pixels) -> Split:
    """An empty split of images of the same shape."""
    return Split(torch.empty((0, *like.shape[1:]), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


def joined(data: Data) -> Data:
    """All images of both splits as test images. No training images remain."""
    first, second = data.train, data.test
    if not len(first):
        return data
    if isinstance(first.images, ImagesOnDemand) and isinstance(second.images, ImagesOnDemand):
        images = joined_images(first.images, second.images)
    else:
        images = torch.cat([first.images[:], second.images[:]])
    everything = Split(images, torch.cat([first.labels, second.labels]))
    return replace(data, train=no_images(second.images), test=everything, source=f"{data.source}, all images")


def from_tensors(
    train_images: object,
    train_labels: object,
    test_images: object,
    test_labels: object,
    classes: object = None,
    name: object = "tensors",
) -> Data:
    """A user's own tensors, numpy arrays or nested lists as a checked dataset.

    Images: uint8 [n, c, h, w], or float32 [n, c, h, w] in [0, 1]. Labels: [n], of any integer dtype, in 0…k−1.
    `classes`: the k names; by default "0"…"k−1", where k is the largest *training* label plus one, so that a larger
    test label is an error. Raises UserError as `checked_data` does.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"the name of the dataset is {described_value(name)}; expected a text that is not empty")
    train, test = (
        Split(as_tensor(images, f"{where} images"), _as_int64(as_tensor(labels, f"{where} labels")))
        for images, labels, where in (
            (train_images, train_labels, f"dataset '{name}', train"),
            (test_images, test_labels, f"dataset '{name}', test"),
        )
    )
    names = _numbers(train.labels, f"dataset '{name}', train") if classes is None else _names(classes, name)
    return checked_data(Data(name, train, test, names, "tensors given by the caller"))


def _as_int64(labels: Tensor) -> Tensor:
    return labels.to(torch.int64) if labels.dtype in _INTEGERS else labels


def _numbers(labels: Tensor, where: str) -> tuple[str, ...]:
    """The numbers of the classes as names. There are none for bad labels, about which `checked_data` reports."""
    if labels.dtype != torch.int64 or not labels.numel():
        return ()
    largest = int(labels.max())
    if largest >= MOST_CLASSES:
        first = int((labels.flatten() == largest).nonzero()[0])
        raise UserError(f"{where} label {first} is {largest}; expected class numbers from 0 to {MOST_CLASSES - 1}")
    return tuple(str(label) for label in range(largest + 1))


def _names(classes: object, name: str) -> tuple[str, ...]:
    if isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray):
        raise UserError(f"dataset '{name}': classes are {described_value(classes)}; expected a sequence of names")
    for index, each in enumerate(classes):
        if not isinstance(each, str):
            raise UserError(f"dataset '{name}': class name {index} is {described_value(each)}; expected a string")
    return tuple(str(each) for each in classes)


def checked_data(data: object, *, judged: bool = False) -> Data:
    """Checks a dataset, and returns it. `judged`: it is only judged, and so it needs no training images.

    The result is a new record where a tensor had to be copied: inference tensors, tensors with a gradient, and pixels
    that are outside [0, 1] by rounding, at most 1e-6. The caller's own tensors are never changed.

    Raises UserError, one line that names the split, the index and what was expected: for a wrong dtype or number of
    dimensions, channels last, different lengths, an empty split, pixels that are not finite or outside [0, 1], labels
    that are not int64 or outside 0…classes−1, train and test images of different shapes, and fewer than two classes in
    train.
    """
    if not isinstance(data, Data):
        raise UserError(f"data is {described_value(data)}; expected what grfd.from_tensors or grfd.load returns")
    if len(_names(data.classes, data.name)) > MOST_CLASSES:
        raise UserError(f"dataset '{data.name}' has {len(data.classes)} classes; expected at most {MOST_CLASSES}")
    without_training = judged and isinstance(data.train, Split) and len(data.train.labels) == 0
    train, test = (
        split
        if split is data.train and without_training
        else _checked_split(split, len(data.classes), f"dataset '{data.name}', {split_name}")
        for split_name, split in (("train", data.train), ("test", data.test))
    )
    train_shape, test_shape = tuple(train.images.shape[1:]), tuple(test.images.shape[1:])
    if train_shape != test_shape:
        raise UserError(
            f"dataset '{data.name}': train images are {train_shape}, test images {test_shape} (channel, height, width);"
            " expected the same"
        )
    present = train.labels.unique()
    if len(present) < 2 and not without_training:
        raise UserError(
            f"dataset '{data.name}', train: all {len(train)} labels are {int(present[0])};"
            " expected at least two classes"
        )
    return data if train is data.train and test is data.test else replace(data, train=train, test=test)


def _checked_split(split: Split, classes: int, where: str) -> Split:
    """Checks a split. Returns it, or a new one where a tensor had to be copied. Images on demand are not decoded."""
    if isinstance(split.images, ImagesOnDemand):
        labels = as_tensor(split.labels, f"{where} labels")
        _check_shapes(split.images, labels, where)
        _check_labels(labels, classes, where)
        return split if labels is split.labels else Split(split.images, labels)
    images, labels = as_tensor(split.images, f"{where} images"), as_tensor(split.labels, f"{where} labels")
    _check_shapes(images, labels, where)
    images = _within(images, where)
    _check_labels(labels, classes, where)
    return split if images is split.images and labels is split.labels else Split(images, labels)


def _check_shapes(images: Pixels, labels: Tensor, where: str) -> None:
    if images.dtype not in (torch.uint8, torch.float32):
        raise UserError(f"{where} images are {images.dtype}; expected torch.uint8 or torch.float32 in [0, 1]")
    if images.ndim != 4:
        raise UserError(f"{where} images have shape {tuple(images.shape)}; expected [n, channel, height, width]")
    if images.shape[1] > 4 and images.shape[3] in (1, 3):
        raise UserError(
            f"{where} images have shape {tuple(images.shape)}; expected [n, channel, height, width]"
            " (channels last? permute(0, 3, 1, 2))"
        )
    if labels.dtype != torch.int64:
        raise UserError(f"{where} labels are {labels.dtype}; expected integers (torch.int64)")
    if labels.ndim != 1:
        raise UserError(f"{where} labels have shape {tuple(labels.shape)}; expected [n], one class number per image")
    if len(images) != len(labels):
        raise UserError(f"{where}: {len(images)} images but {len(labels)} labels; expected the same number")
    if images.numel() == 0:
        hint = " (no training split? grfd evaluate --model needs none)" if where.endswith("train") else ""
        raise UserError(
            f"{where} is empty (images have shape {tuple(images.shape)}); expected at least one image{hint}"
        )


def _within(images: Tensor, where: str) -> Tensor:
    """The images, or a clamped copy where they are outside [0, 1] by rounding."""
    if images.dtype == torch.uint8:
        return images
    low, high = (float(bound) for bound in images.aminmax())
    if low >= 0 and high <= 1:  # false for NaN too, which aminmax returns
        return images
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return images.clamp(0, 1)
    flat = images.flatten(1)
    not_finite = (~flat.isfinite()).any(dim=1).nonzero()
    if len(not_finite):
        raise UserError(f"{where} image {int(not_finite[0])} has NaN or infinite pixels; expected [0, 1]")
    first = int(((flat < 0) | (flat > 1)).any(dim=1).nonzero()[0])
    span = f"[{_digits(low)}, {_digits(high)}]"
    hint = " (images in [0, 255]? divide by 255)" if high > 2 else ""
    raise UserError(
        f"{where} image {first}: pixels of this split lie outside the range by up to {max(-low, high - 1):.2g} and span"
        f" {span}; expected [0, 1]{hint}"
    )


def _digits(value: float) -> str:
    """The shortest text that identifies the float32, so that no excess disappears by rounding."""
    return np.format_float_positional(np.float32(value), trim="-") if abs(value) < 1e6 else f"{value:g}"


def _check_labels(labels: Tensor, classes: int, where: str) -> None:
    outside = ((labels < 0) | (labels >= classes)).nonzero()
    if len(outside):
        first = int(outside[0])
        raise UserError(f"{where} label {first} is {int(labels[first])}; expected 0…{classes - 1} ({classes} classes)")
