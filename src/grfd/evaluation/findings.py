"""What a probe returns, and on how many images it may run."""

from torch import Tensor, nn

from grfd.defenses import is_stochastic
from grfd.types import Images, Labels

Finding = tuple[bool, str]
"""Whether a probe raises a flag, and what it measured."""

FEW_RANDOM = 20
"""Images for probes of a random model. Each gradient needs many draws, and a draw may be a whole purification."""


SMALL = 3 * 64 * 64
"""Pixels times channels of an image up to which a probe takes all the passes that it would like."""


def is_large(images: Images) -> bool:
    """Whether a pass of a network over one image takes so long that probes do with fewer images and steps."""
    return images[0].numel() > SMALL


def affordable(model: nn.Module, images: Images, labels: Labels) -> tuple[Images, Labels]:
    """The images for a probe: fewer where the model is random."""
    return (images[:FEW_RANDOM], labels[:FEW_RANDOM]) if is_stochastic(model) else (images, labels)


def share_of(condition: Tensor) -> float:
    """The share of the entries that are true."""
    return condition.float().mean().item()
