"""Linear models, whose smallest L∞ perturbation is known: |margin| ÷ ‖w_y − w_j‖₁, at the nearest class j."""

from typing import Any

import pytest
import torch
from torch import Tensor

from grfd.attacks import ATTACKS, OTHER_ATTACKS

PIXELS = 32
MINIMUM = 0.01
"""The smallest ε that fools any of the examples, whose pixels stay clear of 0 and 1, so that the box plays no part."""

BUDGETS: dict[str, dict[str, Any]] = {
    "pgd": {"step_size": 0.002, "steps": 20},
    "eotpgd": {"step_size": 0.002, "steps": 20},
    "vmifgsm": {"step_size": 0.002, "steps": 20},
    "aa": {"steps": 20},
    "apgd_ce": {"steps": 20},
    "apgd_t": {"steps": 20},
    "square": {"n_queries": 1200},
}


def _weights(classes: int) -> Tensor:
    """[classes, pixels] float64, every class on pixels of its own, with ‖w‖₁ = 1.

    So ‖w_y − w_j‖₁ = 2 for each pair: the likeliest wrong class is also the nearest.
    """
    generator = torch.Generator().manual_seed(classes)
    size = 0.5 + torch.rand(PIXELS, dtype=torch.float64, generator=generator)
    sign = torch.where(torch.rand(PIXELS, generator=generator) < 0.5, -1.0, 1.0)
    weights = size * sign * (torch.arange(PIXELS) % classes == torch.arange(classes)[:, None])
    return weights / weights.abs().sum(1, keepdim=True)


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


@pytest.mark.parametrize("name", {**ATTACKS, **OTHER_ATTACKS})
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_succeeds_just_above_the_smallest_perturbation_and_never_below(name: str, classes: int, factor: float) -> None:
    weights = _weights(classes)
    images, labels = _examples(weights)
    assert images.min() > 0.1 and images.max() < 0.9

    def model(x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ weights.T

    assert torch.equal(model(images).argmax(1), labels)
    result = {**ATTACKS, **OTHER_ATTACKS}[name](
        model,
        images,
        labels,
        eps=factor * MINIMUM,
        generator=torch.Generator().manual_seed(2),
        **BUDGETS.get(name, {}),
    )
    fooled = model(result).argmax(1) != labels
    assert fooled.all() if factor > 1 else not fooled.any()
