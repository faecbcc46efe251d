"""The law of the residual, in closed form: a constant or linear G lets known shares of a perturbation through."""

import pytest
import torch

from grfd.method.lvcvae import divided
from grfd.method.passing import passed

IMAGES = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PERTURBED = IMAGES + 0.1 * torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
def test_a_linear_generator_passes_what_it_does_not_reproduce(slope: float) -> None:
    """G(x) = slope · x: the residual keeps 1 − slope of δ and of x, the reconstruction keeps slope of both."""
    for kind, kept in (("residual", 1 - slope), ("reconstruction", slope)):
        found = passed(lambda x, kind=kind: divided(x, slope * x, kind)[1], IMAGES, PERTURBED)
        torch.testing.assert_close(found.share, torch.full_like(found.share, kept))
        torch.testing.assert_close(found.signal, torch.full_like(found.signal, kept))
        torch.testing.assert_close(found.cosine, torch.full_like(found.cosine, float(kept > 0)))


def test_a_constant_generator_passes_the_whole_perturbation_and_little_of_the_image() -> None:
    found = passed(lambda x: x - IMAGES, IMAGES, PERTURBED)
    torch.testing.assert_close(found.share, torch.ones_like(found.share))
    torch.testing.assert_close(found.cosine, torch.ones_like(found.cosine))
    assert found.signal.abs().max() == 0


def test_no_perturbation_passes_nothing() -> None:
    found = passed(lambda x: x, IMAGES, IMAGES)
    assert found.share.abs().max() == 0 and found.cosine.abs().max() == 0
