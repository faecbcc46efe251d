import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from grfd.data import DATASETS, Data, Dataset, Split, as_images, checked_data, from_tensors, load
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


def given(images_given: object, labels_given: object) -> Data:
    """One set as training and as test images."""
    return from_tensors(images_given, labels_given, images_given, labels_given)


HARMLESS = {
    "numpy arrays": (images().numpy(), np.array([0, 1, 1, 0])),
    "lists": (images().tolist(), [0, 1, 1, 0]),
    "tuples of tensors": (tuple(images()), tuple(labels(0, 1, 1, 0))),
    "numpy integers": (images(), [np.int64(0), np.int32(1), np.uint8(1), 0]),
    "unsigned": (images(), np.array([0, 1, 1, 0], dtype=np.uint64)),
    "a view": (images().flip(3).numpy()[..., ::-1], np.array([0, 0, 1, 1, 1, 1, 0, 0])[::2]),
    "read-only": (np.broadcast_to(images().numpy(), (4, 1, 5, 5)), np.frombuffer(bytes([0, 1, 1, 0]), np.uint8)),
    "with a gradient": (images().requires_grad_(), labels(0, 1, 1, 0)),
}


@pytest.mark.parametrize(("images_given", "labels_given"), HARMLESS.values(), ids=HARMLESS.keys())
def test_what_is_harmless_becomes_a_tensor(images_given: object, labels_given: object) -> None:
    made = given(images_given, labels_given)
    assert torch.equal(made.train.images, images()) and not made.train.images.requires_grad
    assert made.train.labels.tolist() == [0, 1, 1, 0] and made.train.labels.dtype == torch.int64


REFUSED = {
    "None": (None, [0, 1, 1, 0], "train images are None; expected a tensor, a numpy array or nested lists"),
    "no labels": (images(), None, "train labels are None; expected a tensor"),
    "a label None": (images(), [0, None, 1, 0], "train labels are a list, not all equal rows of 64-bit numbers"),
    "a huge label": (images(), [0, 1, 10**30, 0], "train labels are a list, not all equal rows of 64-bit numbers"),
    "rows of different length": ([[1.0, 2.0], [3.0]], [0, 1], "train images are a list, not all equal rows"),
    "tensors of different shape": ([images()[0], images()[1, 0]], [0, 1], "a list of tensors of different shapes"),
    "text": ("digits.npz", [0, 1], "train images are 'digits.npz'; expected a tensor"),
    "a dictionary": ({"images": 1}, [0, 1], "train images are a dict; expected a tensor"),
    "a function": (images(), lambda: 0, "train labels are a function; expected a tensor"),
    "objects": (images(), np.array([0, 1, 1, {}]), r"train labels are object \(4,\), not all equal rows"),
    "no values": (images().to("meta"), [0, 1, 1, 0], "train images are a tensor that is torch.strided on meta"),
    "sparse": (images().to_sparse(), [0, 1, 1, 0], "train images are a tensor that is torch.sparse_coo on cpu"),
    "float64": (images().double().numpy(), [0, 1, 1, 0], "train images are torch.float64; expected torch.uint8 or"),
    "complex": (images().cfloat().numpy(), [0, 1, 1, 0], "train images are torch.complex64; expected torch.uint8"),
    "a label of 10^12": (
        images(),
        [0, 1, 10**12, 0],
        "label 2 is 1000000000000; expected class numbers from 0 to 6",
    ),
    "above 2^63": (images(), np.array([0, 1, 2**63 + 5, 0], np.uint64), "train label 2 is -9223372036854775803"),
}


@pytest.mark.parametrize(("images_given", "labels_given", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_tensor_is_one_line(images_given: object, labels_given: object, message: str) -> None:
    with pytest.raises(UserError, match=f"dataset 'tensors', .*{message}") as caught:
        given(images_given, labels_given)
    assert str(caught.value).isprintable()


CLASSES = {
    "text": ("ab", "classes are 'ab'; expected a sequence of names"),
    "a number": (2, "classes are 2; expected a sequence of names"),
    "numbers": ([0, 1], "class name 0 is 0; expected a string"),
    "too many": ([str(index) for index in range(2**16 + 1)], "has 65537 classes; expected at most 65536"),
}


@pytest.mark.parametrize(("classes", "message"), CLASSES.values(), ids=CLASSES.keys())
def test_odd_classes_are_one_line(classes: object, message: str) -> None:
    data(classes=np.array(["cat", "dog"]))
    with pytest.raises(UserError, match=f"dataset 'tensors'.* {message}"):
        data(classes=classes)


@pytest.mark.parametrize("name", [None, "", 3])
def test_an_odd_name_is_one_line(name: object) -> None:
    with pytest.raises(UserError, match=r"the name of the dataset is .*; expected a text that is not empty"):
        data(name=name)


def test_tensors_made_in_inference_mode_can_be_trained_on() -> None:
    with torch.inference_mode():
        inside = given(images(), labels(0, 1, 1, 0))
        made = images(), labels(0, 1, 1, 0)
    weight = torch.ones((), requires_grad=True)
    for found in (inside, given(*made), checked_data(Data("own", Split(*made), Split(*made), ("0", "1"), "test"))):
        (found.train.images * weight).sum().backward()
    assert float(weight.grad) == pytest.approx(3 * float(images().sum()), rel=1e-6)


@pytest.mark.parametrize("excess", [1.2e-7, 9e-7])
def test_pixels_that_leave_the_range_by_rounding_are_brought_back(excess: float) -> None:
    own = images()
    own[0, 0, 0, 0], own[1, 0, 0, 0] = -excess, 1 + excess
    before = own.clone()
    found = data(train_images=own).train.images
    assert float(found.min()) == 0 and float(found.max()) == 1 and torch.equal(found, before.clamp(0, 1))
    assert torch.equal(own, before), "the caller's tensor was changed"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.000002, r"2e-06 and span \[0, 1.000002\]"),
        (1.00001, r"1e-05 and span \[0, 1.00001\]"),
        (-2e-6, r"2e-06 and span \[-0.000002, 1\]"),
        (1e30, r"1e\+30 and span \[0, 1e\+30\]"),
    ],
)
def test_the_excess_is_printed_with_enough_digits(value: float, message: str) -> None:
    with pytest.raises(
        UserError, match=f"train image 2: pixels of this split lie outside the range by up to {message}; expected"
    ):
        data(train_images=spoilt(value))


def test_as_images_divides_bytes_by_255() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    converted = as_images(pixels)
    assert converted.dtype == torch.float32
    assert torch.equal(converted.flatten(), torch.arange(256, dtype=torch.float32) / 255)
    assert int(pixels.flatten()[255]) == 255, "the stored pixels were changed"


def test_as_images_returns_float_images_as_they_are() -> None:
    own = images()
    assert as_images(own) is own


@hypothesis.settings(deadline=None)
@hypothesis.given(st.integers(1, 9))
def test_take_keeps_the_first(n: int) -> None:
    split = Split(images(6), labels(0, 1, 2, 3, 4, 5))
    assert len(split) == 6
    taken = split.take(n)
    assert taken.labels.tolist() == list(range(min(n, 6))) and torch.equal(taken.images, images(6)[:n])


TAKEN = {
    "zero": (0, "0 examples: expected at least 1"),
    "negative": (-(10**50), "an integer of 167 bits examples: expected at least 1"),
    "fraction": (1.5, "1.5 examples: expected an integer"),
    "NaN": (float("nan"), "nan examples: expected an integer"),
    "None": (None, "None examples: expected an integer"),
    "text": ("3", "'3' examples: expected an integer"),
    "truth": (True, "True examples: expected an integer"),
    "tensor": (torch.tensor([1, 2]), r"torch.int64 \(2,\) examples: expected an integer"),
}


@pytest.mark.parametrize(("n", "message"), TAKEN.values(), ids=TAKEN.keys())
def test_to_take_no_number_of_examples_is_an_error(n: object, message: str) -> None:
    with pytest.raises(UserError, match=f"cannot take {message}"):
        Split(images(), labels(0, 1, 1, 0)).take(n)


def test_take_of_a_numpy_integer_and_of_more_than_there_are() -> None:
    split = Split(images(), labels(0, 1, 1, 0))
    assert len(split.take(np.int64(2))) == 2 and len(split.take(10**30)) == 4


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
        checked_data(Data("mine", split, split, ("0", "1"), "test"))


@pytest.mark.parametrize("what", [None, {}, "mnist", Data])
def test_what_is_no_record_is_one_line(what: object) -> None:
    with pytest.raises(UserError, match=r"^data is .*; expected what grfd.from_tensors or grfd.load returns"):
        checked_data(what)


def test_checked_returns_the_same_record() -> None:
    made = data()
    assert checked_data(made) is made


def test_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=f"unknown dataset 'mnits'; expected one of: {', '.join(DATASETS)}"):
        load("mnits")


def test_load_checks_what_the_loader_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(spoilt(2.0), labels(0, 1, 1, 0))
    bad = Data("bad", split, split, ("0", "1"), "test")
    monkeypatch.setitem(DATASETS, "bad", Dataset("bad", lambda directory: bad))
    with pytest.raises(UserError, match="dataset 'bad', train image 2"):
        load("bad")
