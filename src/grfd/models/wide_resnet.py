"""Wide residual networks, WRN-depth-width (Zagoruyko & Komodakis 2016, arXiv:1605.07146), dropout in each block."""

import re

import torch.nn.functional as F
from torch import Tensor, nn

from grfd.types import Features, Logits

_DROPOUT = 0.3
"""That of the paper and of CD-VAE (section 4.1)."""
WIDE_RESNET = re.compile(r"wrn-(\d+)-(\d+)(?:-dropout-(\d+(?:\.\d+)?))?")


class WideBlock(nn.Module):
    """BN–ReLU–conv 3×3, dropout, BN–ReLU–conv 3×3, plus the input, through a 1×1 convolution where the width changes.

    BN: batch norm. ReLU: rectified linear unit.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.around = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        active = F.relu(self.first_norm(features))
        around = features if self.around is None else self.around(active)
        inner = self.dropout(F.relu(self.second_norm(self.first(active))))
        return self.second(inner) + around


class WideResNet(nn.Module):
    """Images `[batch, channels, height, width]`, with sides that are multiples of 4 → logits.

    The depth is 6n + 4: n blocks in each of three groups, with 16, 32 and 64 times `width` maps. The second and the
    third group halve the sides.
    """

    def __init__(self, depth: int, width: int, channels: int = 3, classes: int = 10, dropout: float = _DROPOUT) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f"the depth of a WRN must be 6n + 4 (10, 16, 22, 28, …), got {depth}")
        if width < 1:
            raise ValueError(f"the width of a WRN must be at least 1, got {width}")
        maps = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, maps[0], 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(
            *(
                WideBlock(maps[group] if index == 0 else maps[group + 1], maps[group + 1],
                      2 if group and index == 0 else 1, dropout)
                for group in range(3)
                for index in range(blocks)
            )
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(maps[3])
        self.classifier = nn.Linear(maps[3], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Features) -> Logits:
        return self.classifier(F.relu(self.norm(self.blocks(self.stem(images)))).mean((2, 3)))


def wide_resnet_named(name: str, *, channels: int, classes: int, height: int, width: int) -> WideResNet:
    """The network that a name such as wrn-28-10 stands for. wrn-10-1-dropout-0 replaces the paper's dropout of 0.3.

    Raises `ValueError` for a depth other than 6n + 4, a dropout of 1 or more, and sides that cannot be halved twice.
    """
    parts = WIDE_RESNET.fullmatch(name)
    if parts is None:
        raise ValueError(f"{name} is not a WRN: expected wrn-DEPTH-WIDTH or wrn-DEPTH-WIDTH-dropout-RATE")
    if height % 4 or width % 4:
        raise ValueError(f"a WRN takes images whose sides are multiples of 4, got {height}×{width}")
    dropout = _DROPOUT if parts[3] is None else float(parts[3])
    if dropout >= 1:
        raise ValueError(f"the dropout must be below 1, got {parts[3]}")
    return WideResNet(int(parts[1]), int(parts[2]), channels, classes, dropout)
