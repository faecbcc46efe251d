"""How much of a perturbation of the image reaches the robust part: the reason why GRFD as published fails.

x_r(x + δ) − x_r(x) = δ − (G(x + δ) − G(x)) where x_r = x − G(x). G has a bottleneck, so that it can hardly reproduce a
perturbation: the difference in brackets is small, and the residual keeps δ while it discards the image.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from grfd.types import Features, Images, PerExample


class Passed(NamedTuple):
    """For each image, what reaches x_r.

    - `share`: ‖x_r(x + δ) − x_r(x)‖ / ‖δ‖. It is 0 where δ = 0.
    - `cosine`: that of the angle between x_r(x + δ) − x_r(x) and δ. With 1, the perturbation passes unchanged.
    - `signal`: ‖x_r(x)‖ / ‖x‖, which is the share of the image that the target model receives.
    """

    share: PerExample
    cosine: PerExample
    signal: PerExample


@torch.no_grad()
def passed(robust_part_of: Callable[[Images], Features], images: Images, perturbed: Images) -> Passed:
    """Compares x_r of images with x_r of perturbed images, all `[batch, channel, height, width]` in [0, 1]."""
    clean = robust_part_of(images).flatten(1)
    change = robust_part_of(perturbed).flatten(1) - clean
    delta = (perturbed - images).flatten(1)
    tiny = torch.finfo(delta.dtype).tiny
    length, changed = delta.norm(dim=1), change.norm(dim=1)
    cosine = (change * delta).sum(1) / (length * changed).clamp_min(tiny)
    signal = clean.norm(dim=1) / images.flatten(1).norm(dim=1).clamp_min(tiny)
    return Passed(changed / length.clamp_min(tiny), cosine, signal)
