"""What a model answers and says of itself: every fault is one line before any work starts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grfd.errors import UserError
from grfd.models.checks import as_module, check_answers, check_declarations, check_folder_name

IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Answers(nn.Module):
    """Answers with what a function makes of the right logits."""

    def __init__(self, change: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(images.flatten(1)[:, :3])


def _raise(logits: Tensor) -> Tensor:
    raise ValueError("of my own")


def _exit(logits: Tensor) -> Tensor:
    raise SystemExit(4)


ANSWERS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "tuple": (lambda logits: (logits, logits), r"model answers with tuple \(Tensor, Tensor\) for 2 images"),
    "dict": (lambda logits: {"logits": logits}, r"answers with dict \(Tensor\)"),
    "nothing": (lambda logits: None, "answers with NoneType"),
    "NumPy": (lambda logits: logits.numpy(), "answers with ndarray"),
    "a number": (lambda logits: 3, "answers with int"),
    "integers": (lambda logits: logits.long(), "answers with torch.int64 numbers: expected floating-point"),
    "complex": (lambda logits: logits.to(torch.complex64), "answers with torch.complex64 numbers"),
    "truth": (lambda logits: logits > 0, "answers with torch.bool numbers"),
    "classes": (lambda logits: logits.argmax(1), r"answers with \(2,\)"),
    "one logit": (lambda logits: logits[:, :1], r"\(2, 1\) for 2 images.*one logit for two classes"),
    "one class more": (lambda logits: nn.functional.pad(logits, (0, 1)), r"\(2, 4\)"),
    "a map": (lambda logits: logits[:, :, None, None], r"\(2, 3, 1, 1\)"),
    "raises": (_raise, r"model cannot take images of \(1, 4, 4\): ValueError: of my own"),
    "exits": (_exit, "SystemExit: 4"),
    "raises for one": (lambda logits: nn.functional.batch_norm(logits, None, None, training=True),
                       r"asked with 1 image, not with 2: .*batch norm in training mode"),
    "squeezed": (lambda logits: logits.squeeze(), r"asked with 1 image, not with 2: model answers with \(3,\)"),
    "batches of two": (lambda logits: logits.view(2, 3), "asked with 1 image, not with 2: model cannot take"),
    "even batches and one": (lambda logits: logits if len(logits) < 3 else logits.view(2, -1), "asked with 3 images"),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
def test_another_answer_is_one_line(case: str) -> None:
    change, message = ANSWERS[case]
    with pytest.raises(UserError, match=message):
        check_answers(Answers(change), IMAGES, "model", 3)


def test_an_answer_that_changes_its_shape_is_noticed() -> None:
    asked: list[Tensor] = []

    def tires(logits: Tensor) -> Tensor:
        asked.append(logits)
        return logits if len(asked) < 4 else logits[:, :2]

    with pytest.raises(UserError, match=r"asked a second time: model answers with \(2, 2\)"):
        check_answers(Answers(tires), IMAGES, "model", 3)


def test_the_model_gets_copies_and_one_image_is_enough() -> None:
    class Writes(Answers):
        def forward(self, images: Tensor) -> Tensor:
            images.mul_(2)
            return super().forward(images)

    one = IMAGES[:1].clone()
    check_answers(Writes(), one, "model", 3)
    assert torch.equal(one, IMAGES[:1])


class Bad(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


def _says(**attributes: Any) -> nn.Module:
    model = Answers()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "rejection too large": ({"rejection": 99}, "rejection is 99: expected 3"),
    "rejection of a class": ({"rejection": 0}, "rejection is 0: expected 3"),
    "rejection None": ({"rejection": None}, "rejection is None"),
    "no votes": ({"votes": 0}, "votes is 0: expected a whole number of at least 1"),
    "negative votes": ({"votes": -1}, "votes is -1"),
    "half a vote": ({"votes": 2.5}, "votes is 2.5"),
    "true votes": ({"votes": True}, "votes is True"),
    "stochastic text": ({"stochastic": "yes"}, "stochastic is 'yes': expected True or False"),
    "averages text": ({"averages_probabilities": "yes"}, "averages_probabilities is 'yes': expected True or False"),
    "stochastic number": ({"stochastic": 1}, "stochastic is 1"),
    "temperature text": ({"training_temperature": "hot"}, "training_temperature is 'hot': expected a number above 0"),
    "temperature 0": ({"training_temperature": 0.0}, "training_temperature is 0.0: expected a number above 0"),
    "temperature NaN": ({"training_temperature": float("nan")}, "training_temperature is nan"),
    "surrogate raises": ({"surrogate": lambda: 1 / 0}, r"model's surrogate\(\): ZeroDivisionError"),
    "surrogate None": ({"surrogate": lambda: None}, r"surrogate\(\) gives NoneType: expected a torch.nn.Module"),
    "surrogate a class": ({"surrogate": lambda: Bad}, "gives the class Bad"),
    "surrogate is no method": ({"surrogate": 3}, "surrogate is 3: expected a method"),
    "surrogate answers otherwise": ({"surrogate": Bad}, r"surrogate\(\) answers with \(2, 1, 4, 4\)"),
    "deterministic raises": ({"deterministic": lambda: {}["x"]}, r"deterministic\(\): KeyError"),
    "deterministic text": ({"deterministic": lambda: "me"}, r"deterministic\(\) gives str"),
    "stand-ins a list": ({"stand_ins": lambda: [Answers()]}, r"stand_ins\(\) gives list \(Answers\): expected a dict"),
    "a stand-in that is none": ({"stand_ins": lambda: {"a": 1}}, r"stand_ins\(\)\['a'\] gives int"),
    "a stand-in that fails": ({"stand_ins": lambda: {"a": Bad()}}, r"stand_ins\(\)\['a'\] answers with"),
    "seen raises": ({"seen": lambda images: images[:, 9]}, r"model's seen\(\): IndexError"),
    "seen another shape": ({"seen": lambda images: images[0]}, r"seen\(images\) gives torch.float32 \(1, 4, 4\)"),
    "residual bytes": ({"residual": lambda images: images.byte()}, r"residual\(images\) gives torch.uint8"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_model_says_wrongly_of_itself_is_one_line(case: str) -> None:
    attributes, message = SAID[case]
    with pytest.raises(UserError, match=message):
        check_declarations(_says(**attributes), IMAGES, "model", 3)


def test_an_attribute_that_cannot_be_looked_at_is_named() -> None:
    class Odd(Answers):
        @property
        def votes(self) -> int:
            raise RuntimeError("not yet")

    with pytest.raises(UserError, match="model's votes: RuntimeError: not yet"):
        check_declarations(Odd(), IMAGES, "model", 3)


def test_what_is_right_passes() -> None:
    right = _says(
        stochastic=True,
        votes=3,
        surrogate=Answers,
        deterministic=Answers,
        stand_ins=lambda: {"other": Answers()},
        seen=lambda images: images,
        residual=lambda images: images - 1,
    )
    check_declarations(right, IMAGES, "model", 3)
    rejecting = Answers(lambda logits: nn.functional.pad(logits, (0, 1)))
    rejecting.rejection = 3  # type: ignore[assignment]
    check_declarations(rejecting, IMAGES, "model", 3)


def test_a_function_becomes_a_module_and_a_class_does_not() -> None:
    model = as_module(lambda images: images.flatten(1), "model")
    assert model(IMAGES).shape == (3, 16)
    with pytest.raises(UserError, match=r"model is the class Bad: expected a network, for example Bad\(\)"):
        as_module(Bad, "model")
    with pytest.raises(UserError, match="model is a str"):
        as_module("lenet5", "model")


@pytest.mark.parametrize("name", ["model", "package.module:factory", "2nd standard", "a+b=c", "_x", "-", "x" * 100])
def test_names_that_may_be_folders(name: str) -> None:
    check_folder_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "../../../out", "a\\b", "a\nb", "a\0b", " a", "a ", "é", "x" * 101, 3, None],
)
def test_names_that_may_not(name: object) -> None:
    with pytest.raises(UserError, match="cannot name a folder") as caught:
        check_folder_name(name)
    assert "\n" not in str(caught.value)
