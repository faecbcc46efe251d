"""A residual network of robust components (Peng et al. 2023, arXiv:2308.16258), in miniature.

The components that the paper recommends for adversarial training: smooth activations (SiLU), squeeze-and-excitation
with the ratio 0.25, a convolutional stem that does not halve the sides at once, and more depth than width.
"""

from torch import Tensor, nn

from grfd.types import Features, Logits

_RATIO = 0.25
_WIDTHS = (12, 24, 40)
"""Maps of the three stages. With these, the network has about as many weights as WRN-10-1 (78,000) or LeNet5
(61,000)."""


class SqueezeExcitation(nn.Module):
    """Scales each map by a number between 0 and 1 that depends on the means of all maps (Hu et al. 2018)."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        inner = max(1, round(_RATIO * maps))
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(maps, inner, 1), nn.SiLU(), nn.Conv2d(inner, maps, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        return features * self.layers(features)


class RobustBlock(nn.Module):
    """Batch norm, SiLU and a 3×3 convolution twice, then squeeze-and-excitation, plus the input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.SiLU(),
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            SqueezeExcitation(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.around = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        # the stride is applied by indexing, for the reason given in `ResidualBlock`
        return self.around(features[..., :: self.stride, :: self.stride]) + self.layers(features)


class RobustResNet(nn.Module):
    """Images `[batch, channels, height, width]` in [0, 1] → logits."""

    def __init__(self, channels: int = 3, classes: int = 10, height: int = 32, width: int = 32) -> None:
        super().__init__()
        if min(height, width) < 8:
            raise ValueError(f"RobustResNet takes images of at least 8×8, got {height}×{width}")
        first, second, third = _WIDTHS
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 3, 1, 1, bias=False),
            RobustBlock(first, first, 2),
            RobustBlock(first, second, 2),
            RobustBlock(second, second, 1),
            RobustBlock(second, third, 2),
            RobustBlock(third, third, 1),
            nn.BatchNorm2d(third),
            nn.SiLU(),
        )
        self.classifier = nn.Linear(third, classes)

    def forward(self, images: Features) -> Logits:
        return self.classifier(self.features(images).mean((2, 3)))
