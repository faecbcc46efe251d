"""Feature squeezers (Xu et al. 2018, arXiv:1704.01155), images → images in [0, 1], and a classifier after one."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.types import Images, Logits

Squeezer = Callable[[Images], Images]


def reduce_bits(images: Images, bits: int) -> Images:
    """rint(x·(2ᵇ − 1)) / (2ᵇ − 1): 2ᵇ levels per channel (utils/squeeze.py of EvadeML-Zoo)."""
    levels = 2**bits - 1
    return (images * levels).round() / levels


def median_2x2(images: Images) -> Images:
    """The median of each 2×2 window, which extends up and to the left. Of the two middle values the upper is taken.

    This equals median_filter of scipy with size 2, which reflects at the border. The gradient is that of the chosen
    pixel.
    """
    padded = F.pad(images, (1, 0, 1, 0), mode="replicate")
    windows = torch.stack(
        [padded[..., y : y + images.shape[2], x : x + images.shape[3]] for y in (0, 1) for x in (0, 1)]
    )
    return windows.sort(0).values[2]


def non_local_means(images: Images, search: int = 13, patch: int = 3, strength: float = 2.0) -> Images:
    """Each pixel becomes a mean over its search window, weighted by the similarity of patches (Buades et al. 2005).

    `search` and `patch` are side lengths in pixels, and `strength` is h in units of 1/255, as in OpenCV's
    fastNlMeansDenoisingColored, which the authors use ("13-3-2"). OpenCV takes distances in Lab space; here they are
    taken in RGB. The result is differentiable. There is one pass for each of the search² shifts.
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
    """A squeezer with the gradient of the identity (BPDA; Athalye et al. 2018, arXiv:1802.00420).

    BPDA: Backward Pass Differentiable Approximation.
    """

    @staticmethod
    def forward(context: object, images: Tensor, squeezer: Squeezer) -> Tensor:
        return squeezer(images)

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class Squeezed(nn.Module):
    """A squeezer followed by a classifier. Its surrogate has the same answers and the gradient of the identity."""

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
