"""DDN (Rony et al. 2019, arXiv 1811.09600, algorithm 1): direction and length of a perturbation are found separately.

It searches for the smallest perturbation in L2, not for one of length ε. A longer one than ε is not a success.
"""

from functools import partial

import torch

from grfd.attacks.inputs import Model, check_stretch, searching
from grfd.attacks.losses import climbed
from grfd.attacks.ranges import COUNT, POSITIVE, POSITIVE_SHARE, in_range
from grfd.attacks.shortest import Visit, Walk, annealed, shortest_within, walked
from grfd.attacks.threat import Batch, length, per_image, steepest
from grfd.types import Images, Labels, Logits, PerExample

_FIRST_STEP, _LAST_STEP = 1.0, 0.01
"""The length of the steps of the direction, as in the paper, in multiples of the range of a pixel."""


def ddn(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    gamma: float = 0.05,
    first_length: float = 1.0,
    spread: float | None = 3.0,
    active_set: bool = True,
    stretch: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """δ ← δ + α·∇CE/‖∇CE‖₂, scaled to a length that shrinks by `gamma` after a success and grows after a failure.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε bounds the Euclidean length of the change, in
    pixels of [0, 1]. If the shortest success is longer than ε, the image is returned unchanged. With ε = ∞, the
    shortest success is always returned.

    - `first_length`: the length of the first perturbation, in multiples of the range of a pixel.
    - `spread`: the logits are divided by a constant of each iterate so that this is their mean absolute deviation. So
      the scale of the logits does not matter, on which the direction of the cross-entropy depends. With None, the
      logits stay as they are, as in the paper.
    - `active_set`: an example is finished with its first success within ε. It has no effect at ε = ∞.
    - `stretch`: the perturbation is scaled to the length ε, for images that are given to another model.
    - `generator` is unused, because nothing is drawn.

    α is annealed from 1 to 0.01 by a cosine. As in the authors' code, δ is the perturbation after scaling and clamping.
    Pixels are not rounded to bytes. Raises UserError for a wrong shape, range, ε or count.
    """
    in_range(steps=(steps, COUNT), gamma=(gamma, POSITIVE_SHARE), first_length=(first_length, POSITIVE))
    in_range(spread=(1.0 if spread is None else spread, POSITIVE))
    check_stretch(eps, stretch)
    with searching(model, images, labels, eps, bounds, "l2") as (model, batch):
        pixel = bounds[1] - bounds[0]
        move = partial(_moved, gamma=gamma, pixel=pixel)
        measure = partial(length, norm="l2")
        walk = Walk(steps, first_length * pixel, partial(_climb, spread=spread), move, measure, bounds, active_set)
        return shortest_within(walked(model, batch, walk), batch, stretch)


def _climb(logits: Logits, labels: Labels, *, spread: float | None) -> tuple[PerExample, PerExample]:
    """The cross-entropy of the scaled logits, as `losses.climbed`. Logits that are not finite do not count."""
    if spread is not None:
        finite = logits.detach().where(logits.isfinite(), torch.nan)
        deviation = (finite - finite.nanmean(1, keepdim=True)).abs().nanmean(1, keepdim=True)
        logits = logits * (spread / deviation.clamp_min(torch.finfo(logits.dtype).tiny ** 0.5))
    return climbed("cross_entropy", logits, labels)


def _moved(visit: Visit, batch: Batch, progress: float, *, gamma: float, pixel: float) -> tuple[Images, PerExample]:
    """Algorithm 1, lines 5 to 12. `pixel` is the range of a pixel, which is the unit of α.

    The radius never exceeds the distance to the farthest corner of the box.
    """
    alpha = pixel * annealed(_FIRST_STEP, _LAST_STEP, progress)
    change = visit.iterates - batch.images + alpha * steepest(visit.gradient, "l2")
    radius = visit.radius * torch.where(visit.fooled, 1 - gamma, 1 + gamma)
    radius = radius.clamp_max(pixel * batch.images[0].numel() ** 0.5)
    return batch.images + per_image(radius) * steepest(change, "l2"), radius
