"""The two halves of the convolutional autoencoder of CD-VAE (Yang et al. 2021, networks/vae.py of the authors).

CD-VAE: Class-Disentangled Variational Auto-Encoder. Images of 32×32 pixels take the authors' two halvings. For larger
images, the sides are halved until they are at most 8, and the maps are doubled each time, up to 256. Sides that are not
multiples of the last stride are padded by reflection, and the decoder crops them.
"""

import math
from itertools import pairwise

from torch import Tensor, nn

from grfd.types import Features

MAPS = 32
"""Number of feature maps after two halvings."""


class Residual(nn.Module):
    """Adds two convolutions of its input to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, features: Features) -> Features:
        return features + self.layers(features)


class Crop(nn.Module):
    """The upper left part of a feature map: what is left of it without the padding."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        return features[..., : self.height, : self.width]


def halvings(height: int, width: int) -> int:
    """How often the sides are halved: until they are at most 8, and at least twice."""
    return max(2, math.ceil(math.log2(max(height, width) / 8)))


def widths(count: int) -> tuple[int, ...]:
    """The number of maps after each halving: 16, 32, 64, …, at most 256."""
    return tuple(min(MAPS // 2 * 2**place, 256) for place in range(count))


def padded(height: int, width: int) -> tuple[int, int]:
    """The sides, enlarged to multiples of the last stride. Raises `ValueError` for sides that are too short for it."""
    stride = 2 ** halvings(height, width)
    rows, columns = (stride * math.ceil(side / stride) for side in (height, width))
    # a reflection has at most as many pixels as the image without its edge
    if rows >= 2 * height or columns >= 2 * width:
        least = stride // 2 + 1
        raise ValueError(f"the residual LVCVAE takes sides of at least {least} pixels here, got {height}×{width}")
    return rows, columns


def residual_encoder(channels: int, height: int, width: int) -> nn.Sequential:
    """Images → flat features: `feature_shape` of them."""
    rows, columns = padded(height, width)
    padding: list[nn.Module] = (
        [nn.ReflectionPad2d((0, columns - width, 0, rows - height))] if (rows, columns) != (height, width) else []
    )
    maps = (channels, *widths(halvings(height, width)))
    down: list[nn.Module] = []
    for before, after in pairwise(maps):
        down += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    last = [Residual(maps[-1]), nn.BatchNorm2d(maps[-1]), Residual(maps[-1]), nn.Flatten()]
    return nn.Sequential(*padding, *down, *last)


def feature_shape(height: int, width: int) -> tuple[int, int, int]:
    """The shape of the encoder's last feature maps: (maps, rows, columns)."""
    count, (rows, columns) = halvings(height, width), padded(height, width)
    return widths(count)[-1], rows // 2**count, columns // 2**count


def residual_decoder(channels: int, height: int, width: int) -> list[nn.Module]:
    """The layers from flat features to an image, without the last activation."""
    shape = feature_shape(height, width)
    maps = (*reversed(widths(halvings(height, width))), channels)
    layers: list[nn.Module] = [nn.Unflatten(1, shape)]
    layers += [Residual(shape[0]), nn.BatchNorm2d(shape[0]), Residual(shape[0]), nn.BatchNorm2d(shape[0])]
    for before, after in pairwise(maps[:-1]):
        up = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        layers += [up, nn.BatchNorm2d(after), nn.LeakyReLU()]
    layers.append(nn.ConvTranspose2d(maps[-2], channels, 4, stride=2, padding=1, bias=False))
    return layers if padded(height, width) == (height, width) else [*layers, Crop(height, width)]
