"""A folder of images, with one folder for each class. Images are decoded on demand.

    DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, or
    DIR/test/CLASS/*.png alone, which can only be judged, or
    DIR/CLASS/*.png: then every fifth image of each class, in the order of file names, is the test split.

Classes are numbered in the order of their names. Files whose suffix is not in `image_file.IMAGE_SUFFIXES`, and names
that start with a dot, are ignored. All images must have the same size once they are prepared (`--resize`, `--crop`). In
a folder whose first image has colours, grey images become RGB. `image_file` says how a file becomes pixels.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from grfd.data.image_file import IMAGE_SUFFIXES, BrokenImage, decoded, without_warnings
from grfd.data.on_demand import ImagesOnDemand
from grfd.data.preparing import Preparation, prepared_pixels
from grfd.data.record import Data, Split, no_images, split_on_demand
from grfd.errors import UserError
from grfd.files import is_folder, listed, reason

_TEST_EVERY = 5

Files = list[tuple[str, int]]
"""Image files with their labels."""


def load_folder(directory: Path | None, how: Preparation | None = None, *, whole: bool = False) -> Data:
    """The images in `directory`, uint8 [n, 1 or 3, h, w], named after it. Only the first image is decoded here.

    `whole`: all images become the test split, and none is for training.
    Raises UserError, which names the folder or file: for no directory, fewer than two classes, an empty class, a test
    class that is missing in training, and if no image can be read.
    """
    if directory is None:
        raise UserError("dataset 'folder' needs a directory; expected one with a folder for each class")
    if not is_folder(directory):
        raise UserError(f"{directory} is not a folder; expected one with a folder for each class")
    classes, train_files, test_files = _splits(directory, whole)
    if whole:
        train_files, test_files = [], train_files + test_files
    train_files, test_files = _class_by_turns(train_files), _class_by_turns(test_files)
    test = _split_of(test_files, train_files or test_files, how or Preparation())
    train = _split_of(train_files, train_files, how or Preparation()) if train_files else no_images(test.images)
    return Data(
        directory.resolve().name,
        train,
        test,
        tuple(classes),
        f"image folder {directory}{', all images' if whole else ''}",
    )


def _splits(directory: Path, whole: bool) -> tuple[list[str], Files, Files]:
    """The class names, and the files of both splits."""
    train_folder, test_folder = directory / "train", directory / "test"
    if _holds_folders(test_folder) and not is_folder(train_folder):
        classes = _class_names(test_folder)
        return classes, [], _labelled(test_folder, classes)
    if _holds_folders(train_folder) or _holds_folders(test_folder):
        classes = _class_names(train_folder)
        return classes, _labelled(train_folder, classes), _labelled(test_folder, classes)
    classes = _class_names(directory)
    return (classes, [], _labelled(directory, classes)) if whole else (classes, *_every_fifth(directory, classes))


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


def _images(folder: Path) -> list[str]:
    """All image files. One that cannot be read, such as a broken link, is included, so that it is refused later."""
    try:
        with os.scandir(folder) as entries:  # knows folders without asking the system about each entry
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".") and not entry.is_dir()
            )
    except OSError as error:
        raise UserError(f"folder {folder} cannot be listed: {reason(error)}") from error
    if not names:
        raise UserError(f"class folder {folder} has no image; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return [os.path.join(folder, name) for name in names]  # noqa: PTH118  a million of Path objects take a minute


def _labelled(folder: Path, classes: Sequence[str]) -> Files:
    names = _subfolders(folder) if is_folder(folder) else []
    if not names:
        raise UserError(f"{folder} has no class folder; expected some of: {', '.join(classes)}")
    for name in names:
        if name not in classes:
            raise UserError(f"class folder {folder / name} is not in training; expected one of: {', '.join(classes)}")
    labels = {name: label for label, name in enumerate(classes)}
    return [(path, labels[name]) for name in names for path in _images(folder / name)]


def _every_fifth(folder: Path, classes: Sequence[str]) -> tuple[Files, Files]:
    train: Files = []
    test: Files = []
    for label, name in enumerate(classes):
        paths = _images(folder / name)
        if len(paths) < _TEST_EVERY:
            raise UserError(
                f"class folder {folder / name} has {len(paths)} images; expected at least {_TEST_EVERY}, as every fifth"
                " becomes a test image (or give train/ and test/ folders; grfd evaluate --split all judges every image)"
            )
        for position, path in enumerate(paths, start=1):
            (train if position % _TEST_EVERY else test).append((path, label))
    return train, test


def _class_by_turns(files: Files) -> Files:
    """The first file of each class, then the second of each, and so on, so that the first N images show all classes."""
    seen: dict[int, int] = defaultdict(int)
    places = []
    for _, label in files:
        places.append(seen[label])
        seen[label] += 1
    return [file for _, file in sorted(zip(places, files, strict=True), key=lambda pair: pair[0])]


def _split_of(files: Files, of: Files, how: Preparation) -> Split:
    """The images of `files`, each of which must have the shape of the first readable one in `of`."""
    reference, shape = _first(of, how)
    with_colours = Preparation(how.resize, how.crop, shape[0] if shape[0] == 3 else None)
    paths = [path for path, _ in files]

    def read(index: int) -> np.ndarray:
        path = Path(paths[index])
        pixels = prepared_pixels(decoded(path, how.channels), with_colours, str(path))
        if pixels.shape != shape:
            raise UserError(
                f"{path} is {_in_words(pixels.shape)}; expected {_in_words(shape)}, as {reference} is"
                + ("" if pixels.shape[1:] == shape[1:] else " (--resize N and --crop N bring images to one size)")
            )
        return pixels

    def facts(index: int) -> str:
        status = os.stat(paths[index])  # noqa: PTH116  as above
        return f"{paths[index]} {status.st_size} {status.st_mtime_ns} {how}"

    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    return split_on_demand(ImagesOnDemand(read, range(len(files)), shape, facts), labels)


def _first(files: Files, how: Preparation) -> tuple[str, tuple[int, ...]]:
    """The first file that can be read, and its shape when it is prepared. Raises the error of the first if none can."""
    first_error = None
    with without_warnings():
        for path, _ in files:
            try:
                return path, prepared_pixels(decoded(Path(path), how.channels), how, path).shape
            except BrokenImage as error:
                first_error = first_error or error
    assert first_error is not None
    raise first_error


def _in_words(shape: tuple[int, ...]) -> str:
    return f"{'grey' if shape[0] == 1 else 'RGB'} {shape[1]}×{shape[2]}"
