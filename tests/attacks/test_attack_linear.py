"""Linear models, whose smallest perturbation is known: |margin| ÷ ‖w_y − w_j‖₁ in L∞, ₂ in L2, and ∞ in L1.

Pixle and AdvGAN are left out: one is not bound by a norm, the other's network need not find the optimum.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from grfd.attacks import ALL_ATTACKS
from grfd.attacks.threat import DUAL_ORDER, Norm, length

PIXELS = 32
MINIMUM = 0.01
"""The smallest ε that fools any of the examples, whose pixels stay clear of 0 and 1, so that the box plays no part."""

BUDGETS: dict[str, dict[str, Any]] = {
    "pgd": {"step_size": 0.002, "steps": 20},
    "eotpgd": {"step_size": 0.002, "steps": 20},
    "vmifgsm": {"step_size": 0.002, "steps": 20},
    "bim": {"step_size": 0.002, "steps": 20},
    "mifgsm": {"step_size": 0.002, "steps": 20},
    "rfgsm": {"steps": 20},
    "hmcam": {"step_size": 20.0, "steps": 120},
    "apgd_ce": {"steps": 20},
    "apgd_dlr": {"steps": 20},
    "apgd_t": {"steps": 20},
    "fab": {"steps": 20},
    "fab_t": {"steps": 20},
    "square": {"n_queries": 1200},
    "aa": {"steps": 20, "n_queries": 1200},
    "aa_torchattacks": {"steps": 20, "n_queries": 1200},
    "deepfool": {"steps": 20},
    "fmn": {"steps": 100},
    # A step of the length changes it by five per cent, so a hundred of them only lead from 1 to MINIMUM.
    "ddn": {"steps": 100, "first_length": 2 * MINIMUM, "spread": 1000.0},
    "cw": {"steps": 400, "learning_rate": 0.001, "search_steps": 12, "initial_c": 0.01},
}
BLACK_BOX = ("hopskipjump", "simba")
"""test_black_box.py compares them with the optimum."""
LINF = [name for name in ALL_ATTACKS if name not in ("pixle", "advgan", "se_advgan", "cw", "ddn", *BLACK_BOX)]
WITH_NORM = [name for name, entry in ALL_ATTACKS.items() if entry.norms]
L2 = [
    *(name for name, entry in ALL_ATTACKS.items() if "l2" in entry.norms and name not in ("square", *BLACK_BOX)),
    "cw",
    "ddn",
]
"""Square's windows come near the optimum in L2 and L1 only after very many queries."""
L1 = [name for name, entry in ALL_ATTACKS.items() if "l1" in entry.norms and name != "square"]


def _weights(classes: int, order: float) -> Tensor:
    """[classes, pixels] float64, every class on pixels of its own, with ‖w‖₁ = 1 (or ‖w‖₂ = √2, ‖w‖∞ = 2, by `order`).

    So ‖w_y − w_j‖ = 2 for each pair: the likeliest wrong class is also the nearest.
    """
    generator = torch.Generator().manual_seed(classes)
    size = 0.5 + torch.rand(PIXELS, dtype=torch.float64, generator=generator)
    sign = torch.where(torch.rand(PIXELS, generator=generator) < 0.5, -1.0, 1.0)
    weights = size * sign * (torch.arange(PIXELS) % classes == torch.arange(classes)[:, None])
    return weights / torch.linalg.vector_norm(weights, ord=order, dim=1, keepdim=True) * 2 ** (1 - 1 / order)


def _examples(weights: Tensor) -> tuple[Tensor, Tensor]:
    """(images [12, 2, 4, 4], labels): one wrong class is 2·MINIMUM below the true one, the others further."""
    classes, rows = len(weights), torch.arange(12)
    generator = torch.Generator().manual_seed(1)
    labels, nearest = rows % classes, (rows + 1 + rows // classes % (classes - 1)) % classes
    logits = -2 * MINIMUM * (1.5 + torch.rand(12, classes, dtype=torch.float64, generator=generator))
    logits[rows, nearest] = -2 * MINIMUM
    logits[rows, labels] = 0.0
    pixels = 0.1 * torch.rand(12, PIXELS, dtype=torch.float64, generator=generator)
    # Classes have pixels of their own, so each logit is put where it is wanted by a move along its own weights.
    pixels = pixels + ((logits - pixels @ weights.T) / weights.square().sum(1)) @ weights
    return (0.5 + pixels).unflatten(1, (2, 4, 4)), labels


@pytest.mark.parametrize(
    ("name", "norm"),
    [*((name, "linf") for name in LINF), *((name, "l2") for name in L2), *((name, "l1") for name in L1)],
)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_succeeds_just_above_the_smallest_perturbation_and_never_below(
    name: str, norm: Norm, classes: int, factor: float
) -> None:
    weights = _weights(classes, DUAL_ORDER[norm])
    images, labels = _examples(weights)
    assert images.min() > 0.1 and images.max() < 0.9

    # Cross-entropy looks at the nearest class alone where it is by far the likeliest of the wrong ones.
    sharp = 1.0 if name == "cw" else 1000.0

    def model(x: Tensor) -> Tensor:
        return sharp * (x.flatten(1) - 0.5) @ weights.T

    assert torch.equal(model(images).argmax(1), labels)
    result = ALL_ATTACKS[name].function(
        model,
        images,
        labels,
        eps=factor * MINIMUM,
        generator=torch.Generator().manual_seed(2),
        **BUDGETS.get(name, {}),
        **({"norm": norm} if name in WITH_NORM else {}),
    )
    fooled = model(result).argmax(1) != labels
    assert fooled.all() if factor > 1 else not fooled.any()


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        *((name, norm) for name in ("fab", "fab_t", "fmn", "deepfool") for norm in ("linf", "l2")),
        *((name, "l1") for name in ("fab", "fab_t", "fmn")),
        ("cw", "l2"),
        ("ddn", "l2"),
    ],
)
def test_the_smallest_perturbation_itself_is_found(attack: str, norm: Norm) -> None:
    """By the attacks that look for it: within 6 per cent (FAB goes 5 per cent beyond the boundary on purpose)."""
    weights = _weights(4, DUAL_ORDER[norm])
    images, labels = _examples(weights)
    keywords = BUDGETS[attack] | ({"norm": norm} if attack in WITH_NORM else {})
    result = ALL_ATTACKS[attack].function(
        lambda x: (x.flatten(1) - 0.5) @ weights.T, images, labels, eps=1.0, active_set=False, **keywords
    )
    change = (result - images).flatten(1)
    sizes = length(change, norm)
    assert bool((sizes >= MINIMUM * (1 - 1e-6)).all()) and bool((sizes <= 1.06 * MINIMUM).all())
