"""The two halves of the convolutional autoencoder of CD-VAE (Yang et al. 2021, networks/vae.py of the authors).

CD-VAE: Class-Disentangled Variational Auto-Encoder.
"""

from torch import nn

from grfd.types import Features

MAPS = 32
"""Number of feature maps where the sides are a quarter of the image's."""


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


def residual_encoder(channels: int, maps: int = MAPS) -> nn.Sequential:
    """Images → flat features: `maps` features for each 16 pixels."""
    return nn.Sequential(
        nn.Conv2d(channels, maps // 2, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(maps // 2),
        nn.ReLU(),
        nn.Conv2d(maps // 2, maps, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(maps),
        nn.ReLU(),
        Residual(maps),
        nn.BatchNorm2d(maps),
        Residual(maps),
        nn.Flatten(),
    )


def residual_decoder(channels: int, height: int, width: int, maps: int = MAPS) -> list[nn.Module]:
    """The layers from flat features to an image, without the last activation."""
    return [
        nn.Unflatten(1, (maps, height // 4, width // 4)),
        Residual(maps),
        nn.BatchNorm2d(maps),
        Residual(maps),
        nn.BatchNorm2d(maps),
        nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(maps // 2),
        nn.LeakyReLU(),
        nn.ConvTranspose2d(maps // 2, channels, 4, stride=2, padding=1, bias=False),
    ]
