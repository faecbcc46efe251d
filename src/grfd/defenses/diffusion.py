"""A small denoising diffusion probabilistic model (DDPM; Ho et al. 2020, arXiv:2006.11239): its network and training.

Only the first steps of the diffusion are trained, since the defense takes no others. The weights are averaged.
Needs `diffusers`: pip install "grfd[diffusion]".
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from grfd.errors import UserError
from grfd.seeds import drawn, normal_like
from grfd.training.loop import Terms
from grfd.types import Images, Labels

DIFFUSION_STEPS = 1000
"""The number T of diffusion steps; β rises linearly from 1e-4 to 0.02."""
NORM_GROUPS = 16
"""Number of groups in the group norms of the U-Net; the widths are multiples of it."""


def noise_scheduler() -> Any:
    """The noise schedule of Ho et al. Raises `UserError` where diffusers is not installed."""
    try:
        from diffusers import DDPMScheduler
    except ImportError as error:
        raise UserError('diffpure needs diffusers: pip install "grfd[diffusion]"') from error
    return DDPMScheduler(num_train_timesteps=DIFFUSION_STEPS, clip_sample=True)


def denoiser(channels: int, widths: tuple[int, ...]) -> nn.Module:
    """ε_θ(x_t, t): the U-Net of diffusers, with one layer per block and without attention."""
    from diffusers import UNet2DModel

    levels = len(widths)
    network: Any = UNet2DModel(
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=NORM_GROUPS,
        add_attention=False,
    )
    return network


class Denoising(nn.Module):
    """‖ε − ε_θ(x_t, t)‖² (eq. 14) at a random step t below `limit`: the mean over pixels, one value per example.

    `averaged` is the moving average of the weights, which is deployed. Its decay rises from 0.1 to `decay`, so that the
    random initial weights are soon forgotten, even in a short training.
    """

    levels: Tensor
    followed: Tensor
    """Number of training steps that the average has followed."""

    def __init__(self, network: nn.Module, averaged: nn.Module, limit: int, decay: float) -> None:
        super().__init__()
        self.network = network
        self.averaged = averaged.requires_grad_(False)
        self.limit = limit
        self.decay = decay
        self.register_buffer("levels", noise_scheduler().alphas_cumprod.clone())
        self.register_buffer("followed", torch.zeros(()))

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        self._follow()
        step = drawn(partial(_steps, self.limit, images.device), len(images))
        noise = normal_like(images)
        noisy = diffused(2 * images - 1, noise, self.levels[step])
        errors = (self.network(noisy, step).sample - noise).square()
        return {"loss": errors.flatten(1).mean(1)}

    @torch.no_grad()
    def _follow(self) -> None:
        self.followed += 1
        decay = (self.followed / (9 + self.followed)).clamp(max=self.decay)
        for mean, weight in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)


def _steps(limit: int, device: torch.device, examples: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(0, limit, (examples,), generator=generator, device=device)


def diffused(signal: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """x_t = √ᾱ·x + √(1 − ᾱ)·ε (eq. 4), with one value of ᾱ per example."""
    kept = level.view(-1, 1, 1, 1)
    return kept.sqrt() * signal + (1 - kept).sqrt() * noise
