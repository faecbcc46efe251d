"""Feature squeezers (Xu et al. 2018, arXiv:1704.01155), images → images in [0, 1], and a classifier behind one."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.types import Images, Logits

Squeezer = Callable[[Images], Images]


def reduce_bits(images: Images, bits: int) -> Images:
    """rint(x·(2ᵇ − 1)) / (2ᵇ − 1): 2ᵇ levels a channel (utils/squeeze.py of EvadeML-Zoo)."""
    levels = 2**bits - 1
    return (images * levels).round() / levels


def median_2x2(images: Images) -> Images:
    """The median of each 2×2 window, the upper of the two middle values, windows reaching up and left.

    As scipy's median_filter of size 2, which reflects at the border. It has a gradient: that of the pixel chosen.
    """
    padded = F.pad(images, (1, 0, 1, 0), mode="replicate")
    windows = torch.stack(
        [padded[..., y : y + images.shape[2], x : x + images.shape[3]] for y in (0, 1) for x in (0, 1)]
    )
    return windows.sort(0).values[2]


def non_local_means(images: Images, search: int = 13, patch: int = 3, strength: float = 2.0) -> Images:
    """Each pixel becomes a mean over its search window, weighted by the likeness of patches (Buades et al. 2005).

    `search` and `patch` are side lengths in pixels, `strength` h in 255ths, as in OpenCV's
    fastNlMeansDenoisingColored, which the authors use ("13-3-2"); there the distance is taken in Lab space, here in
    RGB. Differentiable, one pass over the search² shifts.
    """
    reach, half = search // 2, patch // 2
    height, width = images.shape[2:]
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    total, weights = torch.zeros_like(images), images.new_zeros(len(images), 1, height, width)
    for y in range(search):
        for x in range(search):
            shifted = padded[..., y : y + height, x : x + width]
            squares = (shifted - images).square().mean(1, keepdim=True)
            distance = F.avg_pool2d(F.pad(squares, (half,) * 4, mode="reflect"), patch, stride=1)
            weight = torch.exp(-distance / (strength / 255) ** 2)
            total, weights = total + weight * shifted, weights + weight
    return total / weights


class Straight(torch.autograd.Function):
    """A squeezer whose gradient is the identity's: BPDA (Athalye et al. 2018, arXiv:1802.00420)."""

    @staticmethod
    def forward(context: object, images: Tensor, squeezer: Squeezer) -> Tensor:
        return squeezer(images)

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class Squeezed(nn.Module):
    """A classifier behind a squeezer. Its surrogate gives the same answers, and the identity's gradient."""

    def __init__(self, classifier: nn.Module, squeezer: Squeezer, *, straight: bool = False) -> None:
        super().__init__()
        self.classifier = classifier
        self.squeezer = squeezer
        self.straight = straight

    def surrogate(self) -> "Squeezed":
        return Squeezed(self.classifier, self.squeezer, straight=True).train(self.training)

    def seen(self, images: Images) -> Images:
        return Straight.apply(images, self.squeezer) if self.straight else self.squeezer(images)

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))
