"""The literal registries, and the one line that a user's mistake is answered with."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from grfd.attacks import ATTACKS, OTHER_ATTACKS, TABLE_1, TORCHATTACKS
from grfd.errors import UserError

Attacker = Callable[..., Tensor]


@pytest.mark.parametrize("name", {**ATTACKS, **OTHER_ATTACKS})
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.full((2, 1, 8, 8), 1.5)}, "images reach from 1.5 to 1.5"),
        ({"images": torch.full((2, 1, 8, 8), torch.nan)}, "images reach from nan"),
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, "expected floats"),
        ({"images": torch.zeros(2, 64)}, "channel, height, width"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"labels have shape \(3,\); expected \(2,\)"),
        ({"eps": -0.1}, "eps=-0.1"),
        ({"eps": float("nan")}, "eps=nan"),
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
    ],
)
def test_impossible_keywords(
    attack: Attacker, name: str, change: dict[str, Any], victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        attack(name, *victim, **change)


@pytest.mark.parametrize("family", TABLE_1)
def test_table_1_has_a_budget_for_every_attack(family: str) -> None:
    assert list(TABLE_1[family]) == list(ATTACKS)
    for name, budget in TABLE_1[family].items():
        inspect.signature(ATTACKS[name]).bind(None, None, None, **budget)
        assert all(0 < budget[key] * 255 == round(budget[key] * 255) for key in ("eps", "step_size") if key in budget)


def test_torchattacks_settings_are_keywords_of_their_attacks() -> None:
    for name, keywords in TORCHATTACKS.items():
        assert keywords.keys() <= inspect.signature({**ATTACKS, **OTHER_ATTACKS}[name]).parameters.keys()
