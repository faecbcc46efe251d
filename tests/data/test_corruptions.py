"""Corruptions: the box, severities in order, one stream for each image, and any size."""

import pytest
import torch

from grfd.data import Data
from grfd.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from grfd.data.record import as_images


@pytest.fixture(scope="module")
def digits(mnist: Data) -> torch.Tensor:
    return as_images(mnist.test.images[:12])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_stay_in_the_box_and_change_more_at_the_last_severity(name: str, digits: torch.Tensor) -> None:
    changes = []
    for severity in SEVERITIES:
        changed = corrupted(digits, name, severity, seed=0)
        assert changed.shape == digits.shape and changed.dtype == digits.dtype
        assert (changed >= 0).all() and (changed <= 1).all()
        changes.append((changed - digits).abs().mean().item())
    assert 0 < changes[0] < changes[-1]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_does_not_depend_on_the_others(name: str, digits: torch.Tensor) -> None:
    assert torch.equal(corrupted(digits, name, 3, seed=0)[:5], corrupted(digits[:5], name, 3, seed=0))
    assert torch.equal(corrupted(digits, name, 3, seed=0), corrupted(digits, name, 3, seed=0))


def test_random_corruptions_follow_the_seed(digits: torch.Tensor) -> None:
    for name in ("gaussian_noise", "glass_blur", "snow", "fog", "elastic_transform"):
        assert not torch.equal(corrupted(digits, name, 3, seed=0), corrupted(digits, name, 3, seed=1))


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 48), (1, 9, 9)])
def test_any_size_and_colours(shape: tuple[int, int, int]) -> None:
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    for name in CORRUPTIONS:
        assert corrupted(images, name, 5, seed=0).shape == images.shape


def test_noise_has_the_strength_of_the_paper() -> None:
    grey = torch.full((4, 1, 50, 50), 0.5)
    noisy = corrupted(grey, "gaussian_noise", 5, seed=0) - grey
    assert noisy.std().item() == pytest.approx(0.10, rel=0.05)
    darker = corrupted(torch.rand(2, 1, 40, 40), "contrast", 5, seed=0)
    assert darker.std().item() == pytest.approx(0.15 * 12**-0.5, rel=0.1)
    assert torch.allclose(corrupted(grey, "brightness", 3, seed=0), grey + 0.15)
