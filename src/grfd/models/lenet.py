"""LeNet5 (LeCun et al. 1998, doi:10.1109/5.726791), with rectifiers and max pooling as in today's implementations."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.types import Features, Logits


class ConvMaxPool(nn.Conv2d):
    """5×5 convolution, then 2×2 max pooling: the same function and parameters as the two layers, computed by blocks.

    The four outputs of a pooling window are four output channels of *one* 3×3 convolution over 2×2 blocks of pixels.
    One input channel and six output channels leave most of a vector unit idle; four and twenty-four do not. A stage I
    step, whose cost is the input gradient of the first layer, becomes faster (`benchmarks/stage_one.py`).

    Raises `ValueError` for a padding that is odd, and from PyTorch for images of odd height or width.
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
        # the same values; which of the four it was is only needed by a gradient, and finding out takes far longer
        largest = choices.max(1).values if torch.is_grad_enabled() else choices.amax(1)
        return largest + cast(Tensor, self.bias)[:, None, None]


def lenet_features(channels: int) -> nn.Sequential:
    """The convolutional half of LeNet5: images → 16 maps of a quarter of the size, less one."""
    return nn.Sequential(
        ConvMaxPool(channels, 6, padding=2),
        nn.ReLU(),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def lenet_feature_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of `lenet_features`' output. Raises `ValueError` where LeNet5 cannot take the size."""
    if min(height, width) < 12 or height % 4 or width % 4:
        raise ValueError(f"LeNet5 takes images whose sides are multiples of 4 and at least 12, got {height}×{width}")
    return height // 4 - 2, width // 4 - 2


class LeNet5(nn.Module):
    """Images `[batch, channels, height, width]` in [0, 1] (or x_r in [−1, 1]) → logits; no normalisation."""

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
