"""Augmentation of a whole batch at once, on its device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from grfd.seeds import drawn

PADDING = 4
"""How far a crop is moved at most, in pixels: usual for CIFAR (He et al. 2016, arXiv:1512.03385, section 4.2)."""


def crop_and_flip(images: Tensor, padding: int = PADDING) -> Tensor:
    """Moves each image by up to `padding` pixels each way, filling with zeros, and mirrors it with probability ½.

    Images `[batch, channels, height, width]` of any dtype → the same shape.
    """
    count, _, height, width = images.shape
    device = images.device
    padded = F.pad(images, (padding,) * 4)
    moves = drawn(lambda n, stream: torch.randint(2 * padding + 1, (n, 2), generator=stream, device=device), count)
    rows = moves[:, :1] + torch.arange(height, device=device)
    columns = moves[:, 1:] + torch.arange(width, device=device)
    mirrored = drawn(lambda n, stream: torch.randint(2, (n, 1), generator=stream, device=device), count) > 0
    columns = torch.where(mirrored, columns.flip(1), columns)
    which = torch.arange(count, device=device)[:, None, None]
    # indices on both sides of a slice put the channels last
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
