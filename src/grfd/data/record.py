"""What every dataset becomes: two splits of tensors, class names, and the checks that run before any training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grfd.errors import UserError
from grfd.types import Images, Pixels

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    `images`: uint8 [n, c, h, w] in 0…255 as stored, or float32 [n, c, h, w] in [0, 1]. `labels`: int64 [n].
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, n: int) -> "Split":
        """The first `n` examples (all of them if there are fewer). Raises UserError if n < 1."""
        if n < 1:
            raise UserError(f"cannot take {n} examples: expected at least 1")
        return Split(self.images[:n], self.labels[:n])


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset: label i means `classes[i]`; `source` says in words where the images came from."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str


def as_images(pixels: Pixels) -> Images:
    """uint8 [n, c, h, w] becomes float32 in [0, 1], divided by 255; float images are returned as they are."""
    if pixels.dtype == torch.uint8:
        return pixels.to(torch.float32).div_(255)
    return pixels


def from_tensors(
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: Sequence[str] | None = None,
    name: str = "tensors",
) -> Data:
    """A user's own tensors as a checked dataset.

    Images: uint8 [n, c, h, w], or float32 [n, c, h, w] in [0, 1]. Labels: [n], any integer dtype, in 0…k−1.
    `classes` are the k names; by default "0"…"k−1", k being the largest *training* label plus one, so that a test
    label that no training image has is an error. Raises UserError as `checked` does.
    """
    train, test = Split(train_images, _as_int64(train_labels)), Split(test_images, _as_int64(test_labels))
    if classes is None:
        # Labels that are empty or not integers have no k; `checked` then names what is wrong with them.
        known = int(train.labels.max()) + 1 if train.labels.dtype == torch.int64 and train.labels.numel() else 0
        classes = [str(label) for label in range(known)]
    return checked(Data(name, train, test, tuple(classes), "tensors given by the caller"))


def _as_int64(labels: Tensor) -> Tensor:
    return labels.to(torch.int64) if labels.dtype in INTEGERS else labels


def checked(data: Data) -> Data:
    """The same record, once nothing is found wrong with it.

    Raises UserError, one line that names split, index and what was expected: wrong dtype or number of dimensions,
    channels last, lengths that differ, an empty split, pixels that are not finite or lie outside [0, 1], labels that
    are not int64 or lie outside 0…classes−1, train and test images of different shape, fewer than two classes in train.
    """
    for split_name, split in (("train", data.train), ("test", data.test)):
        where = f"dataset '{data.name}', {split_name}"
        _check_shapes(split, where)
        _check_pixels(split.images, where)
        _check_labels(split.labels, len(data.classes), where)
    train_shape, test_shape = tuple(data.train.images.shape[1:]), tuple(data.test.images.shape[1:])
    if train_shape != test_shape:
        raise UserError(
            f"dataset '{data.name}': train images are {train_shape}, test images {test_shape} (channel, height, width);"
            " expected the same"
        )
    present = data.train.labels.unique()
    if len(present) < 2:
        raise UserError(
            f"dataset '{data.name}', train: all {len(data.train)} labels are {int(present[0])};"
            " expected at least two classes"
        )
    return data


def _check_shapes(split: Split, where: str) -> None:
    images, labels = split.images, split.labels
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
        raise UserError(f"{where} labels have shape {tuple(labels.shape)}; expected [n], one class number an image")
    if len(images) != len(labels):
        raise UserError(f"{where}: {len(images)} images but {len(labels)} labels; expected as many")
    if images.numel() == 0:
        raise UserError(f"{where} is empty (images have shape {tuple(images.shape)}); expected at least one image")


def _check_pixels(images: Tensor, where: str) -> None:
    if images.dtype == torch.uint8:
        return
    low, high = (float(bound) for bound in images.aminmax())
    if low >= 0 and high <= 1:  # False for NaN too, which aminmax passes on
        return
    flat = images.flatten(1)
    not_finite = (~flat.isfinite()).any(dim=1).nonzero()
    if len(not_finite):
        raise UserError(f"{where} image {int(not_finite[0])} has NaN or infinite pixels; expected [0, 1]")
    first = int(((flat < 0) | (flat > 1)).any(dim=1).nonzero()[0])
    hint = " (images in [0, 255]? divide by 255)" if high > 2 else ""
    raise UserError(f"{where} image {first}: pixels of this split span [{low:g}, {high:g}]; expected [0, 1]{hint}")


def _check_labels(labels: Tensor, classes: int, where: str) -> None:
    outside = ((labels < 0) | (labels >= classes)).nonzero()
    if len(outside):
        first = int(outside[0])
        raise UserError(f"{where} label {first} is {int(labels[first])}; expected 0…{classes - 1} ({classes} classes)")
