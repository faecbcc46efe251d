"""The literal registries, and the one line that a user's mistake is answered with."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS, TABLE_1_ATTACKS, fgsm
from grfd.attacks.registry import names_for_help
from grfd.errors import UserError

Attacker = Callable[..., Tensor]


@pytest.mark.parametrize("name", ALL_ATTACKS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.full((2, 1, 8, 8), 1.5)}, "images reach from 1.5 to 1.5"),
        ({"images": torch.full((2, 1, 8, 8), torch.nan)}, "images reach from nan"),
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, "expected floats"),
        ({"images": torch.zeros(2, 64)}, "channel, height, width"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"labels have shape \(3,\); expected \(2,\)"),
        ({"eps": -0.1}, "(eps|step_size)=-0.0?[15]"),
        ({"eps": float("nan")}, "(eps|step_size)=nan"),
    ],
)
def test_impossible_inputs(
    attack: Attacker, name: str, change: dict[str, Any], message: str, small_net: Callable[..., nn.Module]
) -> None:
    keywords = {"images": torch.zeros(2, 1, 8, 8), "labels": torch.zeros(2, dtype=torch.long), "eps": 0.1} | change
    # Where the shapes of signatures are checked, that check may come first.
    with pytest.raises((UserError, TypeCheckError)) as caught:
        attack(name, small_net(), **keywords)
    assert isinstance(caught.value, TypeCheckError) or re.search(message, str(caught.value))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fgsm", {"loss": "hinge"}),
        ("pgd", {"loss": "hinge"}),
        ("pgd", {"keep": "first"}),
        ("pgd", {"restarts": 0}),
        ("pgd", {"steps": -1}),
        ("eotpgd", {"samples": 0}),
        ("vmifgsm", {"neighbours": -1}),
        ("apgd_ce", {"steps": 0}),
        ("apgd_t", {"samples": 0}),
        ("square", {"n_queries": 0}),
        ("square", {"p_init": 1.5}),
        ("pgd", {"norm": "l1"}),
        ("apgd_dlr", {"restarts": 0}),
        ("fab_t", {"steps": 0}),
        ("fab", {"alpha_max": 2.0}),
        ("aa", {"version": "fast"}),
        ("rfgsm", {"random_step": 0.5}),
        ("cw", {"search_steps": 0}),
        ("pixle", {"patches": 0}),
        ("hmcam", {"links": 0}),
        ("advgan", {"steps": 0}),
        ("se_advgan", {"hinge": -1.0}),
        ("ddn", {"gamma": 2.0}),
        ("fmn", {"last_step": 0.0}),
        ("deepfool", {"overshoot": -0.1}),
    ],
)
def test_impossible_keywords(
    attack: Attacker, name: str, change: dict[str, Any], victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        attack(name, *victim, **change)


@pytest.mark.parametrize("name", ALL_ATTACKS)
def test_the_keywords_of_an_entry_are_those_of_its_attack(name: str) -> None:
    entry = ALL_ATTACKS[name]
    signature = inspect.signature(entry.function)
    for budget in (entry.grey, entry.colour):
        signature.bind(None, None, None, **{"eps": 0.1} | budget | entry.transfer)
        signature.bind(None, None, None, **{"eps": 0.1} | budget | (entry.torchattacks or {}))
    assert ("norm" in signature.parameters) == bool(entry.norms)
    assert entry.transfer.get("active_set") is False or entry.transfer.get("as_returned") is True


@pytest.mark.parametrize("name", TABLE_1_ATTACKS)
def test_budgets_of_table_1_are_whole_steps_of_a_byte(name: str) -> None:
    for budget in (ALL_ATTACKS[name].grey, ALL_ATTACKS[name].colour):
        assert all(0 < budget[key] * 255 == round(budget[key] * 255) for key in ("eps", "step_size") if key in budget)


def test_help_names_every_attack() -> None:
    assert set(re.findall(r"\w+", names_for_help())) >= set(ALL_ATTACKS)


def test_titles_are_distinct() -> None:
    titles = [entry.title for entry in ALL_ATTACKS.values()]
    assert len(set(titles)) == len(titles) and all(titles)


def _numbers(name: str) -> list[str]:
    """The numeric settings of an attack, by its signature."""
    parameters = inspect.signature(ALL_ATTACKS[name].function).parameters.values()
    return [each.name for each in parameters if each.annotation in (int, float, float | None)]


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        (name, setting, value)
        for name, entry in ALL_ATTACKS.items()
        for setting in _numbers(name)
        for value in (-1, float("nan"), float("inf"), "3", True)
        if not (entry.minimal and setting == "eps" and value == float("inf"))
    ],
)
def test_every_numeric_setting_has_a_valid_range(
    attack: Attacker, name: str, setting: str, value: object, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    with pytest.raises((UserError, TypeCheckError, TypeError)) as caught:
        ALL_ATTACKS[name].function(*victim, **{"eps": 0.1} | _needed(name) | {setting: value})
    if isinstance(caught.value, UserError):
        assert "\n" not in str(caught.value) and "expected" in str(caught.value)
    else:
        assert not isinstance(value, float)


def _needed(name: str) -> dict[str, Any]:
    return {key: value for key, value in {"step_size": 0.05, "steps": 3}.items() if key in _numbers(name)}


@pytest.mark.parametrize("name", ALL_ATTACKS)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([1, 10]), "a label is 10, but the model answers with 10 classes"),
        (torch.tensor([-1, 3]), "a label is -1; expected class numbers from 0"),
        (torch.tensor([6.9, 1.0]), "labels are torch.float32; expected a tensor of integers"),
    ],
)
def test_labels_that_no_class_has(
    attack: Attacker, name: str, labels: Tensor, message: str, small_net: Callable[..., nn.Module]
) -> None:
    with pytest.raises((UserError, TypeCheckError)) as caught:
        attack(name, small_net(), torch.rand(2, 1, 8, 8), labels)
    assert isinstance(caught.value, TypeCheckError) or message in str(caught.value)


@pytest.mark.parametrize("name", ALL_ATTACKS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: (logits, logits), "answers with a tuple"),
        (lambda logits: {"logits": logits}, "answers with a dict"),
        (lambda logits: logits[:, :1], r"answers with \(\d+, 1\) for \d+ images"),
        (lambda logits: logits.argmax(1), r"answers with \(\d+,\) for \d+ images"),
        (lambda logits: logits.long(), "answers with torch.int64"),
        (lambda logits: logits.to(torch.complex64), "answers with torch.complex64"),
    ],
)
def test_answers_that_are_no_logits(
    attack: Attacker, name: str, change: Callable, message: str, small_net: Callable[..., nn.Module]
) -> None:
    net = small_net()
    with pytest.raises(UserError, match=message):
        attack(name, lambda images: change(net(images)), torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long))


def test_an_epsilon_above_the_range_of_a_pixel_is_taken_for_one_of_255() -> None:
    with pytest.raises(UserError, match=r"eps=8; expected at most 1, the range of a pixel \(did you mean 8/255\?\)"):
        fgsm(nn.Flatten(), torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long), eps=8)


def test_pixels_outside_the_box_by_rounding_are_clamped_and_others_show_their_excess(
    victim: tuple[nn.Module, Tensor, Tensor],
) -> None:
    net, images, labels = victim
    result = fgsm(net, images.clamp(max=1) + 1.2e-7, labels, eps=0.1)
    assert result.min() >= 0 and result.max() <= 1
    with pytest.raises(UserError, match=r"images reach from .* to 1.0001.*, 0.0001 outside the box"):
        fgsm(net, torch.where(images == images.max(), 1.0001, images), labels, eps=0.1)


@pytest.mark.parametrize(
    "bounds", [(1.0, 0.0), (0.0, 0.0), (0.0, float("nan")), (0.0, float("inf")), 1.0, (0.0,), ("0", "1"), None]
)
def test_bounds_are_two_finite_numbers_in_order(bounds: object) -> None:
    images = torch.rand(2, 1, 3, 3)
    with pytest.raises((UserError, TypeCheckError), match=r"two finite numbers, the smaller one first|bounds"):
        fgsm(lambda x: x.flatten(1)[:, :2], images, torch.zeros(2).long(), eps=0.1, bounds=bounds)  # type: ignore[arg-type]
