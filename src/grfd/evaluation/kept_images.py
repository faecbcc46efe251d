"""Adversarial images that are kept on request, and what a model says of them after rounding to 8 bits.

They lie in `kept-images/`, in a file for each record: x′ − x as float16, one row for each image. A picture file has 8
bits for each colour, and rounding undoes many small perturbations.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grfd.files import read_regular
from grfd.runs import write_bytes
from grfd.types import Images

KEPT_IMAGES = "kept-images"
"""Folder of a run for adversarial images."""


def kept_path(folder: Path, record: Path) -> Path:
    """The file of the images of a record."""
    return folder / KEPT_IMAGES / record.relative_to(folder).with_suffix(".npy")


def append_differences(path: Path, more: np.ndarray, start: int) -> None:
    """Appends the differences of the batch that begins at image `start`. Later ones are replaced."""
    old = read_differences(path)
    buffer = io.BytesIO()
    np.save(buffer, more if old is None else np.concatenate([old[:start], more]))
    write_bytes(path, buffer.getvalue())


def read_differences(path: Path) -> np.ndarray | None:
    """x′ − x as float16 [n, channel, height, width], or None if no images are kept."""
    if not path.exists():
        return None
    return np.asarray(np.load(io.BytesIO(read_regular(path, 2**40)), allow_pickle=False))


def kept_images(path: Path, clean: Images, start: int) -> Images | None:
    """The adversarial images that belong to the clean images from `start` on, or None if they are not kept."""
    differences = read_differences(path)
    if differences is None or len(differences) < start + len(clean):
        return None
    part = torch.from_numpy(differences[start : start + len(clean)]).to(clean)
    return (clean + part).clamp(0, 1)


def rounded(images: Tensor) -> Tensor:
    """Images as a picture file stores them: 256 values for each pixel."""
    return (255 * images).round() / 255
