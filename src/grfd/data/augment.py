"""Augmentation of a whole batch on its device, in one gather."""

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4
"""Pixels by which a crop may be moved, the standard for CIFAR (He et al. 2016, arXiv:1512.03385, section 4.2)."""


def crop_and_flip(images: Tensor, padding: int = PADDING) -> Tensor:
    """Each image moved by up to `padding` pixels each way, zeros moving in, and mirrored with probability ½.

    Images `[batch, channels, height, width]` of any dtype → the same shape; drawn from PyTorch's global generator.
    """
    count, _, height, width = images.shape
    device = images.device
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    mirrored = torch.rand(count, 1, device=device) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    which = torch.arange(count, device=device)[:, None, None]
    # an index on both sides of the slice puts the channels last
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
