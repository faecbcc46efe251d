"""The scale of the logits under attack, so that no result depends on the scale of a model's own logits.

The gradient of a cross-entropy weighs the classes by the differences of their logits: it weighs all classes alike if
logits are tiny, and only the best ones if they are huge. A network whose logits are multiplied by 0.01 makes the same
predictions, but one step along its gradient finds fewer adversarial examples. The judge therefore attacks all models at
the same scale.
"""

import torch
from torch import nn

from grfd.defenses import is_stochastic
from grfd.evaluation.attacker import answer, surrogate_of, without_randomness
from grfd.types import Images, Logits

SCALE_EXAMPLES = 200
"""Number of clean images from which the scale is computed."""

RANDOM_SCALE_EXAMPLES = 20
"""The same for a random model and for what is attacked in its place: a forward pass may be a whole purification."""

LARGEST_GAP = 1e30
"""A larger gap, or one below the inverse, is not corrected, because the factor or the logits would overflow."""

GAP = 10.0
"""The median difference between the two largest logits at which every model is attacked. It is about that of a LeNet5
trained on MNIST (docs/measured.md compares FGSM at other values)."""


@torch.no_grad()
def logit_scale(defense: nn.Module, images: Images) -> float:
    """The factor by which the logits of a defense, or of its surrogate, are multiplied before it is attacked.

    `images`: clean images [batch, channel, height, width] in [0, 1], of which the first are used. The factor is
    inversely proportional to the size of the logits. It is 1 if the median difference of the two largest logits is 0,
    not finite, or out of all bounds.
    """
    count = RANDOM_SCALE_EXAMPLES if is_stochastic(defense) else SCALE_EXAMPLES
    return scale_of(answer(surrogate_of(without_randomness(defense)), images[:count]))


def scale_of(logits: Logits) -> float:
    """`GAP` divided by the median difference of the two largest logits, over images with finite logits."""
    finite = logits[logits.isfinite().all(1)].double()
    if len(finite) == 0:
        return 1.0
    best = finite.topk(2, dim=1).values
    gap = float((best[:, 0] - best[:, 1]).median())
    return GAP / gap if 1 / LARGEST_GAP < gap < LARGEST_GAP else 1.0
