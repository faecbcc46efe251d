"""Map-style PyTorch data sets of (image, label) as a `Data`: torchvision's, Hugging Face's, and a user's own.

An item is a pair, or a dict with "image" (or "img") and "label" (or "labels"), as Hugging Face's data sets give. An
image is of Pillow, uint8 or float in [0, 1], [channel, height, width]. Labels are taken from `targets`, `labels` or a
column of the data set; where it has none of them, each item is read once. Images are read on demand.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grfd.data.given import described_value
from grfd.data.image_file import BrokenImage
from grfd.data.on_demand import ImagesOnDemand
from grfd.data.preparing import Preparation, prepared_pixels
from grfd.data.record import Data, Split, no_images, split_on_demand
from grfd.errors import UserError

_IMAGE_KEYS = ("image", "img", "pixel_values")
_LABEL_KEYS = ("label", "labels", "fine_label")
_EXPECTED = "expected a grfd.Data, or one or two data sets (train, test) of pairs (image, label)"


def data_from(made: object, name: str, how: Preparation | None = None) -> Data:
    """What a user's factory returned, as a dataset that is not checked yet. One data set alone can only be judged.

    Raises UserError for anything else.
    """
    if isinstance(made, Data):
        return made
    sets = list(made) if isinstance(made, tuple) else [made]
    if not 1 <= len(sets) <= 2 or not all(_is_map_style(each) for each in sets):
        raise UserError(f"data {name} is {described_value(made)}; {_EXPECTED}")
    labels = [_labels(each, f"data {name}") for each in sets]
    classes = _classes(sets[-1]) or tuple(str(number) for number in range(int(max(each.max() for each in labels)) + 1))
    shape, how = None, how or Preparation()
    splits = []
    for dataset, its_labels in zip(sets, labels, strict=True):
        shape = shape or _pixels(dataset, 0, how, f"data {name}, image 0").shape
        splits.append(_split(dataset, its_labels, shape, how, name))
    train = splits[0] if len(splits) == 2 else no_images(splits[-1].images)
    return Data(name, train, splits[-1], classes, f"data set {name}")


def _is_map_style(dataset: object) -> bool:
    return hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not isinstance(dataset, str | Tensor)


def _split(dataset: Any, labels: Tensor, shape: tuple[int, ...], how: Preparation, name: str) -> Split:
    def read(index: int) -> np.ndarray:
        who = f"data {name}, image {index}"
        pixels = _pixels(dataset, index, how, who)
        if pixels.shape != shape:
            raise UserError(
                f"{who} is {tuple(pixels.shape)}; expected {tuple(shape)} (channel, height, width), as the first is"
                " (--resize N and --crop N bring images to one size)"
            )
        return pixels

    return split_on_demand(ImagesOnDemand(read, range(len(labels)), shape), labels)


def _item(dataset: Any, index: int, who: str) -> tuple[Any, Any]:
    """The image and the label of an item. Raises `BrokenImage` for any exception of the data set."""
    try:
        item = dataset[index]
    except Exception as error:  # a user's own code may raise anything
        raise BrokenImage(f"{who} cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(item, Mapping):
        found = [next((item[key] for key in keys if key in item), None) for keys in (_IMAGE_KEYS, _LABEL_KEYS)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    elif isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    raise UserError(f"{who} is {described_value(item)}; expected a pair (image, label)")


def _pixels(dataset: Any, index: int, how: Preparation, who: str) -> np.ndarray:
    image = _item(dataset, index, who)[0]
    if isinstance(image, Image.Image):
        grey = image.mode in ("1", "L", "LA", "I;16")
        array = np.asarray(image.convert("L" if grey else "RGB"))
        return prepared_pixels(array[None] if grey else array.transpose(2, 0, 1), how, who)
    if isinstance(image, Tensor | np.ndarray):
        return prepared_pixels(_as_bytes(torch.as_tensor(image), who), how, who)
    raise UserError(f"{who} is {described_value(image)}; expected an image of Pillow or a tensor")


def _as_bytes(image: Tensor, who: str) -> np.ndarray:
    """A tensor [channel, height, width] as uint8. Floats in [0, 1] are rounded to multiples of 1/255."""
    image = image.detach().cpu()
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise UserError(f"{who} has shape {tuple(image.shape)}; expected [1 or 3 channels, height, width]")
    if image.dtype == torch.uint8:
        return image.numpy()
    if not image.is_floating_point() or not bool(((image >= 0) & (image <= 1)).all()):
        span = f"{image.dtype} from {float(image.min()):g} to {float(image.max()):g}"
        raise UserError(
            f"{who} is {span}; expected uint8, or floats in [0, 1] (normalise in the model, not in the data set)"
        )
    return (image * 255).round().to(torch.uint8).numpy()


def _labels(dataset: Any, who: str) -> Tensor:
    """All labels. Only where the data set does not list them, each item is read."""
    columns = getattr(dataset, "column_names", None) or ()
    listed = next((dataset[key] for key in _LABEL_KEYS if key in columns), None)
    for attribute in ("targets", "labels") if listed is None else ():
        listed = getattr(dataset, attribute, None) if listed is None else listed
    if listed is None or len(listed) != len(dataset):
        listed = [_item(dataset, index, f"{who}, image {index}")[1] for index in range(len(dataset))]
    try:
        labels = torch.as_tensor(np.array([int(each) for each in listed]), dtype=torch.int64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{who}: its labels are not all whole numbers ({error}); expected class numbers") from error
    if not len(labels) or int(labels.min()) < 0:
        raise UserError(f"{who} has {len(labels)} labels; expected at least one, and none below 0")
    return labels


def _classes(dataset: Any) -> tuple[str, ...] | None:
    """The class names of torchvision's data sets (`classes`) or of Hugging Face's (`features`)."""
    names = getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if names is None and isinstance(features, Mapping):
        names = next((getattr(features[key], "names", None) for key in _LABEL_KEYS if key in features), None)
    return tuple(str(each) for each in names) if isinstance(names, list | tuple) else None
