import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grfd.data import DATASETS, Data, Split, as_images, checked, from_tensors, load
from grfd.errors import UserError


def images(n: int = 4, channels: int = 1, size: int = 5) -> torch.Tensor:
    return torch.linspace(0, 1, n * channels * size * size).reshape(n, channels, size, size)


def labels(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def data(**changes) -> Data:
    parts = {
        "train_images": images(),
        "train_labels": labels(0, 1, 1, 0),
        "test_images": images(2),
        "test_labels": labels(1, 0),
    }
    return from_tensors(**(parts | changes))


def test_from_tensors_keeps_the_tensors_and_names_the_classes() -> None:
    made = data(name="mine")
    assert torch.equal(made.train.images, images()) and torch.equal(made.test.labels, labels(1, 0))
    assert (made.name, made.classes) == ("mine", ("0", "1"))
    assert data(classes=["cat", "dog", "emu"]).classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_from_tensors_takes_any_integer_labels(dtype: torch.dtype) -> None:
    assert torch.equal(data(train_labels=labels(0, 1, 1, 0).to(dtype)).train.labels, labels(0, 1, 1, 0))


def test_as_images_divides_bytes_by_255() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    converted = as_images(pixels)
    assert converted.dtype == torch.float32
    assert torch.equal(converted.flatten(), torch.arange(256, dtype=torch.float32) / 255)
    assert int(pixels.flatten()[255]) == 255, "the stored pixels were changed"


def test_as_images_returns_float_images_as_they_are() -> None:
    own = images()
    assert as_images(own) is own


@settings(deadline=None)
@given(st.integers(1, 9))
def test_take_keeps_the_first(n: int) -> None:
    split = Split(images(6), labels(0, 1, 2, 3, 4, 5))
    assert len(split) == 6
    taken = split.take(n)
    assert taken.labels.tolist() == list(range(min(n, 6))) and torch.equal(taken.images, images(6)[:n])


def test_take_of_nothing_is_an_error() -> None:
    with pytest.raises(UserError, match="cannot take 0 examples"):
        Split(images(), labels(0, 1, 1, 0)).take(0)


def spoilt(value: float) -> torch.Tensor:
    spoilt_images = images()
    spoilt_images[2, 0, 1, 1] = value
    return spoilt_images


BAD = {
    "nan": ({"train_images": spoilt(float("nan"))}, "train image 2 has NaN or infinite"),
    "infinite": ({"train_images": spoilt(float("inf"))}, "train image 2 has NaN or infinite"),
    "nan before out of range": (
        {"train_images": torch.cat([images(3) * 9, torch.full((1, 1, 5, 5), torch.nan)])},
        "train image 3 has NaN",
    ),
    "above one": ({"train_images": spoilt(1.001)}, r"train image 2: .* \[0, 1.001\]; expected \[0, 1\]$"),
    "below zero": ({"train_images": spoilt(-0.5)}, r"train image 2: .* \[-0.5, 1\]; expected \[0, 1\]$"),
    "0 to 255": ({"test_images": images(2) * 255}, r"test image 0: .*images in \[0, 255\]\? divide by 255"),
    "float64": ({"train_images": images().double()}, "train images are torch.float64; expected torch.uint8 or"),
    "no channel axis": ({"train_images": images()[:, 0]}, r"train images have shape \(4, 5, 5\); expected \[n, chan"),
    "channels last": ({"test_images": torch.zeros(2, 5, 5, 3)}, r"channels last\? permute\(0, 3, 1, 2\)"),
    "channels differ": (
        {"test_images": images(2, channels=3)},
        r"train images are \(1, 5, 5\), test images \(3, 5, 5\)",
    ),
    "sizes differ": ({"test_images": images(2, size=6)}, r"train images are \(1, 5, 5\), test images \(1, 6, 6\)"),
    "label too large": (
        {"classes": ["a", "b"], "train_labels": labels(0, 1, 2, 0)},
        "train label 2 is 2; expected 0…1",
    ),
    "label negative": ({"train_labels": labels(0, -1, 1, 0)}, "train label 1 is -1; expected 0…1"),
    "test label unknown": ({"test_labels": labels(1, 2)}, "test label 1 is 2; expected 0…1"),
    "float labels": (
        {"train_labels": torch.tensor([0.0, 1, 1, 0])},
        "train labels are torch.float32; expected integers",
    ),
    "bool labels": ({"test_labels": torch.tensor([True, False])}, "test labels are torch.bool; expected integers"),
    "one-hot labels": ({"train_labels": torch.eye(4).long()}, r"train labels have shape \(4, 4\); expected \[n\]"),
    "lengths": ({"train_labels": labels(0, 1)}, "train: 4 images but 2 labels"),
    "empty train": ({"train_images": images(4)[:0], "train_labels": labels()}, "train is empty"),
    "empty test": ({"test_images": images(4)[:0], "test_labels": labels()}, "test is empty"),
    "no pixels": ({"train_images": torch.zeros(4, 1, 0, 5)}, "train is empty"),
    "one class": ({"train_labels": labels(0, 0, 0, 0), "test_labels": labels(0, 0)}, "all 4 labels are 0; expected at"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_tensors_are_refused_in_one_line_that_names_the_dataset(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        data(name="mine", **changes)
    assert "dataset 'mine'" in str(caught.value) and "\n" not in str(caught.value)


def test_checked_does_not_convert_labels() -> None:
    split = Split(images(), torch.tensor([0, 1, 1, 0], dtype=torch.int32))
    with pytest.raises(UserError, match=r"train labels are torch.int32; expected integers \(torch.int64\)"):
        checked(Data("mine", split, split, ("0", "1"), "test"))


def test_checked_returns_the_same_record() -> None:
    made = data()
    assert checked(made) is made


def test_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=f"unknown dataset 'mnits'; expected one of: {', '.join(DATASETS)}"):
        load("mnits")


def test_load_checks_what_the_loader_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(spoilt(2.0), labels(0, 1, 1, 0))
    monkeypatch.setitem(DATASETS, "bad", lambda directory: Data("bad", split, split, ("0", "1"), "test"))
    with pytest.raises(UserError, match="dataset 'bad', train image 2"):
        load("bad")
