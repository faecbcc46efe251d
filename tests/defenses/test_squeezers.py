"""Squeezers beside scipy's, on what is known in closed form; a straight-through gradient."""

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from torch import nn

from grfd.defenses.squeezers import Squeezed, median_2x2, non_local_means, reduce_bits


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_bits_leave_as_many_levels(bits: int) -> None:
    ramp = torch.linspace(0, 1, 2000).view(1, 1, 40, 50)
    reduced = reduce_bits(ramp, bits)
    assert len(reduced.unique()) == 2**bits
    assert (reduced - ramp).abs().max() <= 0.5 / (2**bits - 1) + 1e-6
    assert torch.equal(reduce_bits(reduced, bits), reduced)


@pytest.mark.parametrize("shape", [(2, 1, 5, 7), (1, 3, 8, 8)])
def test_the_median_is_scipy_s(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected = median_filter(images.numpy(), size=(1, 1, 2, 2), mode="reflect")
    assert np.array_equal(median_2x2(images).numpy(), expected)


def test_non_local_means_take_noise_away_and_keep_edges() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(1, 3, 24, 24)
    clean[..., 12:] = 0.8
    noisy = clean + 0.02 * torch.randn(clean.shape, generator=generator)
    smooth = non_local_means(noisy, strength=10.0)
    assert (smooth - clean).square().mean() < 0.3 * (noisy - clean).square().mean()
    assert (smooth[..., 12] - smooth[..., 11]).min() > 0.7
    assert torch.allclose(non_local_means(clean), clean, atol=1e-6)


def test_non_local_means_by_the_formula() -> None:
    """One pixel, from the definition: weights exp(−d²/h²) over the window, d² the mean square over 3×3 patches."""
    images = torch.rand(1, 3, 21, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    strength, total, weights = 60.0, torch.zeros(3, dtype=torch.float64), 0.0
    here = images[0, :, 9:12, 9:12]
    for y in range(4, 17):
        for x in range(4, 17):
            distance = (images[0, :, y - 1 : y + 2, x - 1 : x + 2] - here).square().mean()
            weight = torch.exp(-distance / (strength / 255) ** 2)
            total, weights = total + weight * images[0, :, y, x], weights + weight
    assert torch.allclose(non_local_means(images, strength=strength)[0, :, 10, 10], total / weights)


def test_the_surrogate_answers_the_same_with_the_identity_s_gradient() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    squeezed = Squeezed(net, lambda images: reduce_bits(images, 1)).eval()
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    surrogate = squeezed.surrogate()
    assert torch.equal(surrogate(images), squeezed(images)) and not surrogate.training
    (gradient,) = torch.autograd.grad(surrogate(images)[:, 0].sum(), images)
    assert torch.allclose(gradient.flatten(1), net[1].weight[0].expand(5, 16))
    (lost,) = torch.autograd.grad(squeezed(images)[:, 0].sum(), images)
    assert lost.abs().max() == 0
