import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grfd.data import load
from grfd.errors import UserError


def save(path: Path, value: int = 0, mode: str = "L", size: tuple[int, int] = (6, 4)) -> Path:
    """A width × height image with `value` in every channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size, value)
    (image if mode == "L" else image.convert(mode)).save(path)
    return path


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """DIR/train and DIR/test, two classes, grey 4×6 images."""
    for index in range(3):
        save(tmp_path / f"train/cat/{index}.png", 10 + index)
        save(tmp_path / f"train/dog/{index}.png", 20 + index)
    save(tmp_path / "test/cat/0.png", 30)
    save(tmp_path / "test/dog/0.png", 40)
    return tmp_path


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """DIR/CLASS only: eleven images of cat, five of dog."""
    for name, first, n in (("cat", 100, 11), ("dog", 200, 5)):
        for index in range(n):
            save(tmp_path / name / f"{index:02d}.png", first + index)
    return tmp_path


def values(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_train_and_test_folders(split: Path) -> None:
    data = load("folder", split)
    assert data.train.images.shape == (6, 1, 4, 6) and data.train.images.dtype == torch.uint8
    assert values(data.train.images) == [10, 20, 11, 21, 12, 22] and data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert values(data.test.images) == [30, 40] and data.test.labels.tolist() == [0, 1]
    assert data.classes == ("cat", "dog") and data.name == split.name and str(split) in data.source


def test_every_fifth_image_of_a_class_is_test(flat: Path) -> None:
    data = load("folder", flat)
    assert values(data.test.images) == [104, 204, 109] and data.test.labels.tolist() == [0, 1, 0]
    assert values(data.train.images) == [100, 200, 101, 201, 102, 202, 103, 203, 105, 106, 107, 108, 110]


def test_test_may_lack_a_class(split: Path) -> None:
    (split / "test/cat/0.png").unlink()
    (split / "test/cat").rmdir()
    assert load("folder", split).test.labels.tolist() == [1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for index in range(5):
            save(tmp_path / name / f"{index}.png")
    assert load("folder", tmp_path).classes == ("bus", "train")


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        path = tmp_path / ("a" if index < 5 else "b") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    data = load("folder", tmp_path)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    assert torch.equal(data.test.images, expected[[4, 9]])
    assert torch.equal(data.train.images, expected[[0, 5, 1, 6, 2, 7, 3, 8]])


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp", ".webp", ".png", ".gif", ".tiff", ".ppm"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    for index in range(10):
        save(tmp_path / str(index % 2) / f"{index}{suffix}", 16 * index, mode="RGB")
    data = load("folder", tmp_path)
    assert data.train.images.shape == (8, 3, 4, 6)
    expected = torch.tensor([0, 16, 32, 48, 64, 80, 96, 112]).reshape(-1, 1, 1, 1)
    assert (data.train.images.int() - expected).abs().max() <= 2, "lossy formats may be off by a little"


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("RGBA", 3), ("P", 3)])
def test_modes_become_one_or_three_channels(tmp_path: Path, mode: str, channels: int) -> None:
    for index in range(10):
        save(tmp_path / str(index % 2) / f"{index}.png", 255, mode=mode)
    images = load("folder", tmp_path).train.images
    assert images.shape == (8, channels, 4, 6) and bool((images == 255).all())


def test_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    for index in range(10):
        image = Image.new("P", (6, 4), 1)
        image.putpalette([0, 0, 0, 9, 8, 7])
        path = tmp_path / str(index % 2) / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path, transparency=bytes([0, 128]))
    assert load("folder", tmp_path).train.images[0, :, 0, 0].tolist() == [9, 8, 7]


def test_other_and_hidden_files_are_passed_over(flat: Path) -> None:
    (flat / "cat/notes.txt").write_text("not an image")
    (flat / "cat/._00.png").write_bytes(b"left by another system")
    (flat / ".cache").mkdir()
    data = load("folder", flat)
    assert len(data.train) + len(data.test) == 16 and data.classes == ("cat", "dog")


def test_loads_silently(flat: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load("folder", flat)
    assert capfd.readouterr() == ("", "")


def test_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset 'folder' needs a directory"):
        load("folder")
    with pytest.raises(UserError, match="nowhere is not a folder"):
        load("folder", tmp_path / "nowhere")


def test_no_class(tmp_path: Path) -> None:
    save(tmp_path / "0.png")
    with pytest.raises(UserError, match=f"{tmp_path} has no class folder; expected at least two"):
        load("folder", tmp_path)


def test_one_class(tmp_path: Path) -> None:
    save(tmp_path / "cat/0.png")
    with pytest.raises(UserError, match=r"has one class folder \(cat\); expected at least two"):
        load("folder", tmp_path)


@pytest.mark.parametrize("empty", ["train/emu", "test/cat"])
def test_empty_class(split: Path, empty: str) -> None:
    for path in (split / empty).glob("*"):
        path.unlink()
    (split / empty).mkdir(exist_ok=True)
    with pytest.raises(UserError, match=f"class folder {split / empty} has no image"):
        load("folder", split)


def test_test_class_unknown(split: Path) -> None:
    save(split / "test/emu/0.png")
    with pytest.raises(UserError, match=f"class folder {split}/test/emu is not in training; expected one of: cat, dog"):
        load("folder", split)


@pytest.mark.parametrize(
    ("missing", "message"), [("test", "test has no class folder"), ("train", "has no training images")]
)
def test_one_of_the_two_splits_is_missing(split: Path, missing: str, message: str) -> None:
    (split / missing).rename(split / f"{missing}-old")
    with pytest.raises(UserError, match=message):
        load("folder", split)


def test_too_few_images_to_take_every_fifth(flat: Path) -> None:
    (flat / "dog/00.png").unlink()
    with pytest.raises(UserError, match=f"class folder {flat}/dog has 4 images; expected at least 5"):
        load("folder", flat)


@pytest.mark.parametrize("where", ["train/dog/1.png", "test/dog/0.png"])
@pytest.mark.parametrize(
    ("change", "message"),
    [({"size": (7, 4)}, "is grey 4×7; expected grey 4×6"), ({"mode": "RGB"}, "is RGB 4×6; expected grey 4×6")],
    ids=["size", "mode"],
)
def test_image_of_another_shape_is_named(split: Path, where: str, change: dict, message: str) -> None:
    save(split / where, **change)
    with pytest.raises(UserError, match=f"{split / where} {message}, as {split}/train/cat/0.png is"):
        load("folder", split)


def test_sixteen_bits_become_eight(split: Path) -> None:
    Image.new("I;16", (6, 4), 38 * 257).save(split / "train/cat/1.png")
    assert values(load("folder", split).train.images) == [10, 20, 38, 21, 12, 22]


def test_floats_are_refused(split: Path) -> None:
    Image.new("F", (6, 4)).save(split / "train/cat/1.tiff")
    with pytest.raises(UserError, match=r"train/cat/1.tiff has pixels of kind 'F'; expected 8 or 16 bits per channel"):
        load("folder", split)


def test_an_orientation_is_applied_before_shapes_are_compared(split: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 6), 99).save(split / "train/cat/1.png", exif=exif)
    assert values(load("folder", split).train.images)[2] == 99


def test_a_class_folder_that_may_not_be_read_is_named(unprivileged: Path) -> None:
    for index in range(10):
        save(unprivileged / str(index % 2) / f"{index}.png")
    Path("1").chmod(0)
    with pytest.raises(UserError, match="folder 1 cannot be listed: Permission denied"):
        load("folder", unprivileged)


@pytest.mark.parametrize(
    ("make", "message"),
    [(os.mkfifo, "is a named pipe"), (lambda path: path.symlink_to("nowhere"), "is not there")],
    ids=["FIFO", "link to nothing"],
)
def test_what_is_called_an_image_and_is_no_file_is_named(split: Path, make, message: str) -> None:
    make(split / "train/cat/3.png")
    with pytest.raises(UserError, match=f"train/cat/3.png {message}"):
        load("folder", split)


def test_folders_with_the_suffix_of_an_image_are_passed_over(split: Path) -> None:
    (split / "train/cat/3.png").mkdir()
    assert len(load("folder", split).train) == 6


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened: File name too long"):
        load("folder", tmp_path / ("n" * 300))


@pytest.mark.parametrize("where", ["train/cat/0.png", "train/dog/2.png", "test/cat/0.png"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_image_is_named(split: Path, where: str, suffix: str) -> None:
    (split / where).unlink()
    path = (split / where).with_suffix(suffix)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=f"{path} cannot be read as an image: "):
        load("folder", split)


def test_unreadable_image_is_named(split: Path) -> None:
    (split / "train/cat/1.png").write_bytes(b"no image at all")
    with pytest.raises(UserError, match=r"train/cat/1.png cannot be read as an image: "):
        load("folder", split)
