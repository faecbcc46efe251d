"""LVCVAE, the generator G: it reproduces x_u, the redundant part of an image (Li et al. 2025, section 3.2).

LVCVAE: Latent Variable Constrained Variational Auto-Encoder, a β-VAE whose latent variables a rectification head
classifies, so that they cluster by class.
"""

import math
from typing import Literal

import torch
from torch import nn

from grfd.method.residual import feature_shape, residual_decoder, residual_encoder
from grfd.models.lenet import lenet_feature_size, lenet_features
from grfd.seeds import normal_like
from grfd.types import Features, Images, Latents, Logits

RobustPart = Literal["residual", "reconstruction"]
"""What the target model receives: x − G(x), as published, or G(x)."""


class LVCVAE(nn.Module):
    """The encoder q_φ (`encoder`, then `mean` and `log_variance`), the decoder p_θ and the head f_ψ. G(x) = p_θ(z)."""

    def __init__(
        self,
        encoder: nn.Module,
        mean: nn.Linear,
        log_variance: nn.Linear,
        rectification: nn.Linear,
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.mean = mean
        self.log_variance = log_variance
        self.rectification = rectification
        self.decoder = decoder

    def encode(self, images: Images) -> tuple[Latents, Latents]:
        """q_φ(z|x): its mean μ and its log-variance log σ², each `[batch, latent]`."""
        hidden = self.encoder(images)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, latents: Latents) -> Features:
        """p_θ(z): x_u in [0, 1], shaped like the images."""
        return self.decoder(latents)

    def rectify(self, latents: Latents) -> Logits:
        """f_ψ(z): class logits from the latent variables alone."""
        return self.rectification(latents)


def lenet_lvcvae(channels: int, classes: int, height: int, width: int, latent: int = 256) -> LVCVAE:
    """The LVCVAE for grey images. The paper only says that it is "based on LeNet5".

    Here the encoder is the convolutional half of LeNet5, followed by one linear layer for μ and one for log σ². The
    decoder mirrors it: each 5×5 convolution with 2×2 pooling becomes a 3×3 sub-pixel convolution (Shi et al. 2016,
    arXiv:1609.05158), which equals a 5×5 convolution of the image enlarged by two.
    """
    rows, columns = lenet_feature_size(height, width)
    features = 16 * rows * columns
    return LVCVAE(
        nn.Sequential(lenet_features(channels), nn.Flatten()),
        nn.Linear(features, latent),
        nn.Linear(features, latent),
        nn.Linear(latent, classes),
        nn.Sequential(
            nn.Linear(latent, features),
            nn.ReLU(),
            nn.Unflatten(1, (16, rows, columns)),
            nn.Conv2d(16, 6 * 4, kernel_size=3, padding=2),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(6, channels * 4, kernel_size=3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        ),
    )


def residual_lvcvae(channels: int, classes: int, height: int, width: int, latent: int = 2024) -> LVCVAE:
    """The LVCVAE for colour images: the network of CD-VAE (Yang et al. 2021), whose schedule the paper follows too.

    Two 4×4 convolutions of stride 2 with batch norm (more for images larger than 32×32), two residual blocks, linear
    layers for μ and log σ², and a decoder that mirrors them and ends in a sigmoid. At 224×224 pixels, with 256 latent
    dimensions, it has 13.7 million weights. Raises `ValueError` for a side that is too short for the last stride.
    """
    features = math.prod(feature_shape(height, width))
    return LVCVAE(
        residual_encoder(channels, height, width),
        nn.Linear(features, latent),
        nn.Linear(features, latent),
        nn.Linear(latent, classes),
        nn.Sequential(nn.Linear(latent, features), *residual_decoder(channels, height, width), nn.Sigmoid()),
    )


def sample(mean: Latents, log_variance: Latents) -> Latents:
    """z ~ N(μ, σ²) by the reparametrisation trick, from PyTorch's global generator."""
    return mean + torch.exp(0.5 * log_variance) * normal_like(mean)


def reconstruction(generator: LVCVAE, images: Images, *, sampled: bool = False) -> Features:
    """G(x), in [0, 1]; z is μ, or drawn from N(μ, σ²) where `sampled` is true."""
    if sampled:
        return generator.decode(sample(*generator.encode(images)))
    # log σ² is not needed
    return generator.decode(generator.mean(generator.encoder(images)))


def divided(images: Images, reconstructed: Features, kind: RobustPart) -> tuple[Features, Features]:
    """(x_u, x_r), the redundant and the robust part, whose sum is x.

    "residual", as published: x_u = G(x) in [0, 1] and x_r = x − G(x) in [−1, 1]. "reconstruction": the parts exchanged.
    """
    residual = images - reconstructed
    return (reconstructed, residual) if kind == "residual" else (residual, reconstructed)


def robust_part(generator: LVCVAE, images: Images, *, sampled: bool = False, kind: RobustPart = "residual") -> Features:
    """x_r, as `divided` defines it; `sampled` as in `reconstruction`."""
    return divided(images, reconstruction(generator, images, sampled=sampled), kind)[1]
