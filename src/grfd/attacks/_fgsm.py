"""FGSM (Goodfellow et al. 2015, arXiv 1412.6572, section 4): one step of ε along the sign of the gradient."""

from functools import partial

import torch

from grfd.attacks.gradients import slope
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import climbed
from grfd.attacks.threat import Norm, finished, per_image, project, steepest
from grfd.errors import UserError
from grfd.types import Images, Labels


def fgsm(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    loss: str = "cross_entropy",
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """x + ε·sign(∇_x loss), clamped to `bounds`.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1]; loss: a key of
    `losses.LOSSES`. With `active_set`, images that are already misclassified are returned unchanged. With `norm` "l2",
    ε is a Euclidean length and the step goes along ∇/‖∇‖. There is no L1, because the box stops a single step
    along the few largest gradients. `generator` is unused, because nothing is drawn.
    Raises UserError for a wrong shape, range, ε or loss.
    """
    if norm not in ("linf", "l2"):
        raise UserError(f"{norm=}; expected 'linf' or 'l2'")
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        if len(images) == 0:
            return finished(batch.images, batch)
        slopes = slope(model, batch.images[None], batch.labels, partial(climbed, loss))
        stepped = project(batch.images + eps * steepest(slopes.gradient[0], norm), batch)
        fooled = (slopes.lead[0] >= 0) & active_set
        return finished(torch.where(per_image(fooled), batch.images, stepped), batch)
