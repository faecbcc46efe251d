"""How the judge asks a model, and what it takes from an attack."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS
from grfd.errors import UserError
from grfd.evaluation.attacker import (
    Attempt,
    answer,
    attack,
    check_output,
    residual_of,
    seen_of,
    stand_ins_of,
    surrogate_of,
)

LINE = "\n"


class Asked(nn.Module):
    """A model that does what it is told with its input."""

    def __init__(self, do: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.do = do

    def forward(self, images: Tensor) -> object:
        return self.do(images)


def _raise(images: Tensor) -> object:
    raise KeyError("no such\nlayer")


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (_raise, "the model, for images .*, raised KeyError"),
        (lambda images: (images.flatten(1),), "answers with a tuple"),
        (lambda images: images.flatten(1)[:, :1], "one logit for each of at least two classes"),
        (lambda images: None, "answers with a NoneType"),
    ],
)
def test_what_a_model_does_wrong_is_one_line(do: Callable, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        answer(Asked(do), torch.rand(3, 1, 2, 2))
    assert LINE not in str(caught.value)


def test_a_model_that_changes_its_input_is_shown_a_copy() -> None:
    images = torch.rand(3, 1, 2, 2)
    kept = images.clone()
    answer(Asked(lambda shown: shown.mul_(5).flatten(1)), images)
    assert torch.equal(images, kept)


def _attempt(settings: dict, name: str = "fgsm") -> Attempt:
    return Attempt(name, settings, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("made", "attempt", "message"),
    [
        (lambda x: x + 0.2, _attempt({"eps": 0.1}), "outside the linf ball of ε = 0.1"),
        (lambda x: x - 0.6, _attempt({"eps": 1.0}), "outside the box"),
        (lambda x: x * torch.nan, _attempt({"eps": 0.1}), "by nan"),
        (lambda x: x + 0.3, _attempt({"eps": 0.5}, "cw"), "outside the l2 ball"),
        (lambda x: x[:2], _attempt({"eps": 0.1}), "expected"),
    ],
)
def test_an_output_outside_ball_or_box_is_never_judged(made: Callable, attempt: Attempt, message: str) -> None:
    images = torch.full((3, 1, 2, 2), 0.5)
    with pytest.raises(UserError, match=message):
        check_output(made(images), images, attempt)


def test_an_output_on_the_surface_of_the_ball_is_judged() -> None:
    images = torch.full((3, 1, 2, 2), 0.5)
    check_output(images + 0.1, images, _attempt({"eps": 0.1}))
    check_output(images + 0.25, images, _attempt({"eps": 0.5}, "cw"))
    check_output(images * 2, images, _attempt({}, "pixle"))


def test_an_attack_of_ones_own_that_leaves_the_ball_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = replace(ALL_ATTACKS["fgsm"], function=lambda model, images, labels, **keywords: images + 0.3)
    monkeypatch.setitem(ALL_ATTACKS, "fgsm", leaving)
    with pytest.raises(UserError, match="attack fgsm returned an image outside"):
        attack(nn.Flatten(), torch.zeros(2, 1, 2, 2), torch.zeros(2).long(), _attempt({"eps": 0.1}))


class Odd(nn.Module):
    """What it is asked beside its logits ends the program, or changes the images in place."""

    def __init__(self, ask: Callable[..., object]) -> None:
        super().__init__()
        self.seen = self.residual = self.surrogate = self.stand_ins = ask

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def _exit(*_: object) -> None:
    raise SystemExit(3)


def test_a_model_that_ends_the_program_is_one_line() -> None:
    images, odd = torch.rand(2, 1, 2, 2), Odd(_exit)
    for ask in (seen_of, residual_of, lambda model, _: surrogate_of(model), lambda model, _: stand_ins_of(model)):
        with pytest.raises(UserError, match=r"\(\) raised SystemExit: 3"):
            ask(odd, images)
    with pytest.raises(UserError, match="raised SystemExit"):
        answer(Asked(_exit), images)


def test_ctrl_c_inside_a_model_stays_ctrl_c() -> None:
    def interrupt(_: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(Asked(interrupt), torch.rand(1, 1, 2, 2))


def test_what_a_defense_shows_does_not_change_the_images() -> None:
    images = torch.rand(2, 1, 2, 2)
    before, odd = images.clone(), Odd(lambda x: x.mul_(0))
    assert not seen_of(odd, images).any() and not residual_of(odd, images).any()
    assert torch.equal(images, before)


def test_networks_in_a_defenses_place_are_asked_in_eval_mode() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    assert not surrogate_of(Odd(lambda: network.train())).training
    assert not stand_ins_of(Odd(lambda: {"other": network.train()}))["other"].training
