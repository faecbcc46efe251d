"""Class folders and the names of a model's classes."""

import pytest
import torch

from grfd.data import Data, Split
from grfd.data.class_names import matched_data, names_in
from grfd.errors import UserError

NAMES = (("n1", "crane"), ("n2", *names_in("tabby, tabby cat")), ("n3", "crane"), ("n4", "sports_car"))


def folders(*names: str) -> Data:
    labels = torch.arange(len(names))
    split = Split(torch.zeros(len(names), 3, 4, 4, dtype=torch.uint8), labels)
    return Data("mine", split, split, names, "image folder mine")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("n3", "n1"), {"n3": 2, "n1": 0}),
        (("Tabby_Cat", "sports car"), {"Tabby_Cat": 1, "sports car": 3}),
        (("tabby, tabby cat", "Sports-Car"), {"tabby, tabby cat": 1, "Sports-Car": 3}),
    ],
)
def test_folders_are_matched_by_id_or_by_any_name(names: tuple[str, ...], expected: dict[str, int]) -> None:
    data, found = matched_data(folders(*names), NAMES, 4)
    assert found == expected and data.test.labels.tolist() == list(expected.values())
    assert len(data.classes) == len(set(data.classes)) == 4 and data.classes[expected[names[0]]] == names[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("crane", "tabby"), r"folder 'crane' may be class 0 \(n1, crane\) or 2 \(n3, crane\)"),
        (("tabby", "gorgon"), "it has no class 'gorgon'; expected names or WordNet ids such as 'n1', 'crane'"),
        (("tabby", "tabby cat"), "two folders have the same class"),
        (("a", "tabby", "c", "n1"), "it has no class 'a', 'c'"),
    ],
)
def test_what_cannot_be_matched_is_one_line(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        matched_data(folders(*names), NAMES, 4)


def test_without_names_the_order_of_the_folders_counts() -> None:
    data = folders("a", "b")
    assert matched_data(data, None, 2) == (data, {})
    assert matched_data(data, (("x",), ("y",)), 2) == (data, {})
    with pytest.raises(UserError, match="the 2 classes of image folder mine cannot be matched to the model's 3 logits"):
        matched_data(data, None, 3)
