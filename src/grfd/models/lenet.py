"""LeNet5 (LeCun et al. 1998, doi:10.1109/5.726791), with rectifiers and max pooling as is usual today."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.types import Features, Logits


class ConvMaxPool(nn.Conv2d):
    """A 5×5 convolution and 2×2 max pooling. Function and parameters are those of the two layers; it is only faster.

    The four outputs in a pooling window are computed as four output channels of *one* 3×3 convolution over 2×2 blocks
    of pixels. One input channel and six output channels leave most of a vector unit idle; four and twenty-four do not.
    This makes the steps of stage I faster, in which the input gradient of the first layer is the most expensive part
    (`benchmarks/stage_one.py`).

    Raises `ValueError` for an odd padding. PyTorch raises for images of odd height or width.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size=5, padding=padding)
        if padding % 2:
            raise ValueError(f"ConvMaxPool needs an even padding, got {padding}")

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight.contiguous()
        shifted = [F.pad(weight, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
        blocks = F.pixel_unshuffle(torch.stack(shifted), 2).flatten(0, 1)
        windows = F.conv2d(F.pixel_unshuffle(input, 2), blocks, padding=cast(int, self.padding[0]) // 2)
        choices = windows.unflatten(1, (4, -1))
        # both give the same values, but max also finds the index, which only a gradient needs and which takes longer
        largest = choices.max(1).values if torch.is_grad_enabled() else choices.amax(1)
        return largest + cast(Tensor, self.bias)[:, None, None]


def lenet_features(channels: int) -> nn.Sequential:
    """The convolutional half of LeNet5: images → 16 maps; `lenet_feature_size` gives their size."""
    return nn.Sequential(
        ConvMaxPool(channels, 6, padding=2),
        nn.ReLU(),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def lenet_feature_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the maps of `lenet_features`. Raises `ValueError` for a size that LeNet5 does not take."""
    if min(height, width) < 12 or height % 4 or width % 4:
        raise ValueError(f"LeNet5 takes images whose sides are multiples of 4 and at least 12, got {height}×{width}")
    return height // 4 - 2, width // 4 - 2


class LeNet5(nn.Module):
    """Images `[batch, channels, height, width]` in [0, 1], or x_r in [−1, 1] → logits. It does not normalise."""

    def __init__(self, channels: int = 1, classes: int = 10, height: int = 28, width: int = 28) -> None:
        super().__init__()
        rows, columns = lenet_feature_size(height, width)
        self.features = lenet_features(channels)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * rows * columns, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, images: Features) -> Logits:
        return self.classifier(self.features(images))
