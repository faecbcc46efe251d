"""A folder of images, with one folder for each class, as tensors.

    DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, or
    DIR/CLASS/*.png: then every fifth image of each class, in the order of file names, is the test split.

Classes are numbered in the order of their names. Files whose suffix is not in `image_file.IMAGE_SUFFIXES`, and names
that start with a dot, are ignored. All images must have the same size, and all must be grey (1 channel) or all colour
(3 channels). `image_file` says how a file becomes pixels.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from grfd.data.image_file import IMAGE_SUFFIXES, decoded, without_warnings
from grfd.data.record import Data, Split
from grfd.errors import UserError
from grfd.files import is_folder, listed

_TEST_EVERY = 5

Files = list[tuple[Path, int]]
"""Image files with their labels."""


def load_folder(directory: Path | None) -> Data:
    """The images in `directory`, uint8 [n, 1 or 3, h, w], named after it.

    Raises UserError, which names the folder or file: for no directory, fewer than two classes, an empty class, a test
    class that is missing in training, an unreadable image, and images of different sizes or modes.
    """
    if directory is None:
        raise UserError("dataset 'folder' needs a directory; expected one with a folder for each class")
    if not is_folder(directory):
        raise UserError(f"{directory} is not a folder; expected one with a folder for each class")
    train_folder, test_folder = directory / "train", directory / "test"
    if _holds_folders(train_folder) or _holds_folders(test_folder):
        classes = _class_names(train_folder)
        train_files, test_files = _labelled(train_folder, classes), _labelled(test_folder, classes)
    else:
        classes = _class_names(directory)
        train_files, test_files = _every_fifth(directory, classes)
    reference = train_files[0][0]
    return Data(
        directory.resolve().name,
        _read(train_files, reference),
        _read(test_files, reference),
        tuple(classes),
        f"image folder {directory}",
    )


def _holds_folders(folder: Path) -> bool:
    """Whether this is a split. A folder called train or test that holds only files may be a class of that name."""
    return is_folder(folder) and bool(_subfolders(folder))


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in listed(folder) if not path.name.startswith(".") and path.is_dir()]


def _class_names(folder: Path) -> list[str]:
    names = _subfolders(folder) if is_folder(folder) else []
    if len(names) < 2:
        folders = f"one class folder ({names[0]})" if names else "no class folder"
        raise UserError(f"{folder} has {folders}; expected at least two, each with the images of one class")
    return names


def _images(folder: Path) -> list[Path]:
    """All image files. One that cannot be read, such as a broken link, is included, so that it is refused later."""
    named = (path for path in listed(folder) if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."))
    paths = [path for path in named if not path.is_dir()]
    if not paths:
        raise UserError(f"class folder {folder} has no image; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return paths


def _labelled(folder: Path, classes: Sequence[str]) -> Files:
    names = _subfolders(folder) if is_folder(folder) else []
    if not names:
        raise UserError(f"{folder} has no class folder; expected some of: {', '.join(classes)}")
    for name in names:
        if name not in classes:
            raise UserError(f"class folder {folder / name} is not in training; expected one of: {', '.join(classes)}")
    return [(path, classes.index(name)) for name in names for path in _images(folder / name)]


def _every_fifth(folder: Path, classes: Sequence[str]) -> tuple[Files, Files]:
    train: Files = []
    test: Files = []
    for label, name in enumerate(classes):
        paths = _images(folder / name)
        if len(paths) < _TEST_EVERY:
            raise UserError(
                f"class folder {folder / name} has {len(paths)} images; expected at least {_TEST_EVERY},"
                " as every fifth becomes a test image (or give train/ and test/ folders)"
            )
        for position, path in enumerate(paths, start=1):
            (train if position % _TEST_EVERY else test).append((path, label))
    return train, test


def _read(files: Files, reference: Path) -> Split:
    """The images of `files`, each of which must have the shape of `reference`."""
    with without_warnings(), ThreadPoolExecutor() as pool:  # Pillow releases the interpreter's lock while it decodes
        shape = decoded(reference).shape
        images = _room(len(files), shape)
        for index, pixels in enumerate(pool.map(decoded, (path for path, _ in files))):
            if pixels.shape != shape:
                pool.shutdown(cancel_futures=True)
                raise UserError(
                    f"{files[index][0]} is {_in_words(pixels.shape)}; expected {_in_words(shape)}, as {reference} is"
                )
            images[index] = torch.from_numpy(pixels)
    return Split(images, torch.tensor([label for _, label in files], dtype=torch.int64))


def _room(count: int, shape: tuple[int, ...]) -> Tensor:
    try:
        return torch.empty((count, *shape), dtype=torch.uint8)
    except RuntimeError as error:  # what PyTorch raises where memory is short
        raise UserError(f"{count} images of {_in_words(shape)} do not fit in memory; expected smaller ones") from error


def _in_words(shape: tuple[int, ...]) -> str:
    return f"{'grey' if shape[0] == 1 else 'RGB'} {shape[1]}×{shape[2]}"
