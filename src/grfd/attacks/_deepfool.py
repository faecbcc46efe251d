"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599, algorithm 2): steps onto the nearest linearised boundary.

It searches for the smallest perturbation, not for one of length ε. A longer one than ε is not a success.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from grfd.attacks.checked_model import CheckedModel, logits_of
from grfd.attacks.gradients import likeliest_wrong, mean_lead
from grfd.attacks.inputs import Model, check_stretch, searching
from grfd.attacks.ranges import COUNT, NOT_NEGATIVE, in_range
from grfd.attacks.shortest import Shortest, before_search, keep_shorter, plane_distance, shortest_within
from grfd.attacks.threat import Batch, Norm, Rows, length, per_image, rows_of, steepest
from grfd.errors import UserError
from grfd.types import Images, Labels

Targets = Int[Tensor, "rows targets"]
"""The wrong classes that are considered for each row."""


_LEAST_MOVE = 1e-3
"""The least length of a move, as a share of the perturbation so far."""


class _Walk(NamedTuple):
    """The settings of algorithm 2, and the box in which iterates stay."""

    steps: int
    overshoot: float
    bounds: tuple[float, float]
    active_set: bool


def deepfool(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 50,
    targets: int = 9,
    overshoot: float = 0.02,
    active_set: bool = True,
    stretch: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """r ← r + the smallest move onto the nearest linearised boundary; x′ = x + (1 + overshoot)·r, until x′ fools.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length. An example ends with its first success. If this is longer than ε, the image is returned unchanged.
    With ε = ∞, it is always returned.

    - `targets`: the wrong classes, the likeliest of the clean image first, whose boundaries are considered. Each costs
      one backward pass per step. The authors' code takes 9, too.
    - `overshoot`: how far x′ lies beyond the boundary of a linear model, as a share of r.
    - `active_set`: examples that have ended are dropped. Without it, all are computed to the last step, with the same
      result.
    - `stretch`: the perturbation is scaled to the length ε, for images that are given to another model.
    - `generator` is unused, because nothing is drawn.

    Every move after the first is at least a thousandth of r (the authors' code adds 10⁻⁴ for the same reason): an
    example whose moves the box shortens would otherwise approach the boundary without end and never cross it.
    Raises UserError for a wrong shape, range, ε or count.
    """
    in_range(steps=(steps, COUNT), targets=(targets, COUNT), overshoot=(overshoot, NOT_NEGATIVE))
    check_stretch(eps, stretch)
    walk = _Walk(steps, overshoot, bounds, active_set)
    if norm not in ("linf", "l2"):
        raise UserError(f"{norm=}; expected 'linf' or 'l2'")
    with searching(model, images, labels, eps, bounds, norm) as (model, batch):
        shortest, rows = before_search(model, batch)
        if len(rows):
            wrong = torch.stack(likeliest_wrong(model, rows_of(batch, rows), targets), 1)
            _search(model, rows_of(batch, rows), shortest, rows, wrong, walk)
        return shortest_within(shortest, batch, stretch)


def _search(model: CheckedModel, batch: Batch, shortest: Shortest, rows: Rows, wrong: Targets, walk: _Walk) -> None:
    """Algorithm 2 on these rows."""
    iterates, total = batch.images, torch.zeros_like(batch.images)
    reach = walk.bounds[1] - walk.bounds[0]
    for _ in range(walk.steps):
        # A pixel never moves farther than its range, however far the boundary of an almost flat model is.
        move = _onto_boundary(model, iterates, batch, wrong).clamp(-reach, reach)
        total = total + torch.where(per_image(shortest.lengths[rows] < math.inf), 0.0, move)
        iterates = (batch.images + (1 + walk.overshoot) * total).clamp(*walk.bounds)
        fooled = mean_lead(model, iterates, batch.labels) >= 0
        keep_shorter(shortest, rows, iterates, fooled, length(iterates - batch.images, batch.norm))
        if walk.active_set:
            alive = (shortest.lengths[rows] == math.inf).nonzero().squeeze(1)
            if len(alive) == 0:
                return
            if len(alive) < len(rows):
                iterates, total, rows, wrong = (each[alive] for each in (iterates, total, rows, wrong))
                batch = rows_of(batch, alive)


def _onto_boundary(model: CheckedModel, iterates: Images, batch: Batch, wrong: Targets) -> Images:
    """The smallest move onto the nearest linearised boundary, or a longer one in its direction (see `_LEAST_MOVE`)."""
    with torch.enable_grad():
        inputs = iterates.detach().requires_grad_()
        logits = logits_of(model, inputs)
        differences = logits.gather(1, wrong) - logits.gather(1, batch.labels[:, None])
        columns = (differences.sum(0) + 0 * inputs.sum()).unbind()
        gradients = torch.stack([torch.autograd.grad(column, inputs, retain_graph=True)[0] for column in columns])
    gradients = gradients.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    # A class whose logit is not finite has no gradient, so its boundary counts as the farthest.
    differences = differences.detach().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).T
    distances = plane_distance(differences, gradients, 1 if batch.norm == "linf" else 2)
    nearest, example = distances.argmin(0), torch.arange(len(iterates), device=iterates.device)
    long = distances[nearest, example].maximum(_LEAST_MOVE * length(iterates - batch.images, batch.norm))
    return per_image(long) * steepest(gradients[nearest, example], batch.norm)
