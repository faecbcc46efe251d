"""A small residual network (He et al. 2016, arXiv:1512.03385): a typical architecture for CIFAR, made inexpensive."""

import torch.nn.functional as F
from torch import Tensor, nn

from grfd.types import Features, Logits


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch norm, plus the input, which a 1×1 convolution adapts where the size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.stride = stride
        self.around = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(features)))
        # the stride is applied by indexing, because the backward pass of a 1×1 convolution of stride 2 over three
        # channels in channels-last format corrupts memory on a CPU (PyTorch 2.13)
        around = self.around(features[..., :: self.stride, :: self.stride])
        return F.relu(self.second_norm(self.second(inner)) + around)


class SmallResNet(nn.Module):
    """Images `[batch, channels, height, width]` in [0, 1] → logits. Each of the three blocks halves the sides."""

    def __init__(self, channels: int = 3, classes: int = 10, height: int = 32, width: int = 32) -> None:
        super().__init__()
        if min(height, width) < 8:
            raise ValueError(f"SmallResNet takes images of at least 8×8, got {height}×{width}")
        self.features = nn.Sequential(ResidualBlock(channels, 8, 2), ResidualBlock(8, 16, 2), ResidualBlock(16, 32, 2))
        self.classifier = nn.Linear(32, classes)

    def forward(self, images: Features) -> Logits:
        return self.classifier(self.features(images).mean((2, 3)))
