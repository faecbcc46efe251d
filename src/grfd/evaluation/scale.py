"""The scale at which a model's logits are attacked, so that no result depends on the scale at which it gives them.

A cross-entropy weighs the classes by the differences of their logits: for tiny logits it weighs all classes alike, for
huge ones only the best. A network whose logits are multiplied by 0.01 gives the same answers, and one step along its
gradient finds fewer adversarial examples. So the judge attacks every model at the same scale, whatever its own.
"""

import torch
from torch import nn

from grfd.evaluation.attacker import answer, surrogate_of, without_randomness
from grfd.types import Images, Logits

SCALE_EXAMPLES = 200
"""Clean images from which the scale is found."""

LARGEST_GAP = 1e30
"""A gap beyond it, or below its inverse, is not mended: the factor or its logits would overflow."""

GAP = 10.0
"""The median difference of the two largest logits at which every model is attacked: about what it is for a LeNet5 that
was trained on MNIST (docs/decisions.md has FGSM at other values)."""


@torch.no_grad()
def logit_scale(defense: nn.Module, images: Images) -> float:
    """What the logits of a defense, or of its surrogate, are multiplied by before it is attacked.

    images [batch, channel, height, width] in [0, 1], clean. For logits that are c times as large it is 1/c of the
    number. 1 where the median difference of the two largest logits is 0, not finite, or beyond any sensible size.
    """
    model = surrogate_of(without_randomness(defense))
    return scale_of(torch.cat([answer(model, part) for part in images.split(SCALE_EXAMPLES)]))


def scale_of(logits: Logits) -> float:
    """`GAP` over the median difference of the two largest logits, among the images whose logits are finite."""
    finite = logits[logits.isfinite().all(1)].double()
    if len(finite) == 0:
        return 1.0
    best = finite.topk(2, dim=1).values
    gap = float((best[:, 0] - best[:, 1]).median())
    return GAP / gap if 1 / LARGEST_GAP < gap < LARGEST_GAP else 1.0
