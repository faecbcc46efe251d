"""Crop and flip: every result is a window of the padded image or of its mirror; all windows occur; seeded."""

import pytest
import torch
import torch.nn.functional as F

from grfd.data.augment import crop_and_flip


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_is_a_window_of_its_own_image_or_of_its_mirror(dtype: torch.dtype, channels: int) -> None:
    torch.manual_seed(0)
    images = (torch.rand(60, channels, 5, 7) * 250 + 1).to(dtype)
    seen = set()
    for image, made in zip(images, crop_and_flip(images, padding=1), strict=True):
        padded = F.pad(image, (1, 1, 1, 1))
        windows = {(top, left, mirrored): (window.flip(2) if mirrored else window)
                   for top in range(3) for left in range(3) for mirrored in (False, True)
                   for window in [padded[:, top : top + 5, left : left + 7]]}  # fmt: skip
        (found,) = [place for place, window in windows.items() if torch.equal(window, made)]
        seen.add(found)
    assert len(seen) > 14, "places and mirrors are drawn"


def test_without_padding_it_only_mirrors_half() -> None:
    torch.manual_seed(0)
    images = torch.rand(400, 3, 4, 4)
    made = crop_and_flip(images, padding=0)
    same = (made == images).flatten(1).all(1)
    assert torch.equal(made[~same], images[~same].flip(3)) and 150 < same.sum() < 250


def test_the_seed_decides() -> None:
    images = torch.rand(8, 3, 6, 6)
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(crop_and_flip(images))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
