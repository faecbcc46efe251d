"""FAB (Croce & Hein 2020, arXiv 1907.02044, algorithm 1): steps onto the decision boundary that stay near the image.

It searches for the smallest perturbation, not for one of length ε. A perturbation longer than ε is not a success.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.checked_model import CheckedModel, logits_of
from grfd.attacks.gradients import likeliest_wrong, mean_lead, slope
from grfd.attacks.inputs import Model, check_stretch, searching
from grfd.attacks.ranges import AT_LEAST_1, COUNT, POSITIVE_SHARE, SHARE, in_range
from grfd.attacks.threat import DUAL_ORDER, Batch, Norm, finished, length, per_image, random_point, rows_of, stretched
from grfd.types import Images, Labels, Logits, PerExample

_Boundaries = Callable[[Images, Labels, Labels], tuple[Tensor, Tensor]]
"""(iterates, labels, targets) -> (z_j − z_y, its gradient) at the nearest linearised boundary."""


class _Walk(NamedTuple):
    """The settings of one search, as in algorithm 1, and the box in which it stays."""

    steps: int
    alpha_max: float
    eta: float
    beta: float
    active_set: bool
    bounds: tuple[float, float]


class _Trials(NamedTuple):
    """The searches: towards which classes, how often, and what is returned."""

    targets: list[Labels]
    restarts: int
    active_set: bool
    stretch: bool
    generator: torch.Generator | None


def fab_t(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    active_set: bool = True,
    stretch: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Targeted FAB: towards the boundary with each of the `targets` likeliest wrong classes in turn (all, if fewer).

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1], or with `norm` "l2" a
    Euclidean length, or with "l1" a sum of absolute changes. Each step projects the iterate and the image onto the
    linearised boundary, goes `eta` times as far, and mixes the two points with a weight of at most `alpha_max`. If
    the result is adversarial, it is moved back towards the image by the factor `beta`. Restarts after the first
    begin at a random point. If the smallest perturbation is longer than ε, the image is returned unchanged. With ε
    = ∞, the smallest one is always returned, and `active_set` has no effect. With `stretch`, the perturbation is
    scaled to the length ε, for images that are given to another model: an example on the decision boundary
    transfers badly. There is no keyword `samples`, because the boundaries of a random model mean little.
    Raises UserError for a wrong shape, range, ε or count.
    """
    walk = _Walk(steps, alpha_max, eta, beta, active_set, bounds)
    _check(walk, restarts=restarts, targets=targets)
    check_stretch(eps, stretch)
    with searching(model, images, labels, eps, bounds, norm) as (model, batch):
        wrong = likeliest_wrong(model, batch, targets) if len(images) else ()
        search = partial(_search, model, partial(_towards, model), walk)
        repeated = [target for target in wrong for _ in range(restarts)]
        return _tried(model, search, batch, _Trials(repeated, restarts, active_set, stretch, generator))


def fab(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    active_set: bool = True,
    stretch: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Untargeted FAB: every step goes towards the nearest of all linearised boundaries.

    A step therefore needs one backward pass for each class, where `fab_t` needs a single one. Keywords, and what is
    raised, as in `fab_t`.
    """
    walk = _Walk(steps, alpha_max, eta, beta, active_set, bounds)
    _check(walk, restarts=restarts)
    check_stretch(eps, stretch)
    with searching(model, images, labels, eps, bounds, norm) as (model, batch):
        search = partial(_search, model, partial(_nearest, model, norm), walk)
        return _tried(
            model, search, batch, _Trials([batch.labels] * restarts, restarts, active_set, stretch, generator)
        )


def _check(walk: _Walk, **counts: int) -> None:
    in_range(steps=(walk.steps, COUNT), **{name: (count, COUNT) for name, count in counts.items()})
    in_range(alpha_max=(walk.alpha_max, SHARE), eta=(walk.eta, AT_LEAST_1), beta=(walk.beta, POSITIVE_SHARE))


def _tried(
    model: CheckedModel,
    search: Callable[[Batch, Images, Labels], tuple[Images, PerExample]],
    batch: Batch,
    trials: _Trials,
) -> Images:
    """The shortest result of all searches. With an active set, each works on the examples without a success so far."""
    result = batch.images.clone()
    fooled = mean_lead(model, batch.images, batch.labels) >= 0
    shortest = torch.where(fooled, 0.0, torch.inf).to(result.dtype)
    for trial, target in enumerate(trials.targets):
        rows = torch.arange(len(result), device=result.device)
        rows = rows[shortest[rows] > (batch.eps if trials.active_set and batch.eps < math.inf else 0.0)]
        if len(rows) == 0:
            break
        part = rows_of(batch, rows)
        first = trial % trials.restarts == 0
        start = part.images if first else _random_start(part, shortest[rows], trials.generator)
        candidates, lengths = search(part, start, target[rows])
        shorter = ((lengths <= batch.eps) | trials.stretch) & (lengths < shortest[rows])
        kept = candidates if trials.stretch else candidates.clamp(part.lower, part.upper)
        result[rows] = torch.where(per_image(shorter), kept, result[rows])
        shortest[rows] = torch.where(shorter, lengths, shortest[rows])
    return finished(stretched(result, batch) if trials.stretch else result, batch)


def _random_start(batch: Batch, shortest: PerExample, generator: torch.Generator | None) -> Images:
    """A random point of ball ∩ box. With ε = ∞, the ball has half the length of the shortest perturbation so far."""
    if batch.eps < math.inf:
        return random_point(batch, generator)
    move = random_point(batch._replace(eps=1.0), generator) - batch.images
    return batch.images + per_image((shortest / 2).clamp_max(1)) * move


def _search(
    model: CheckedModel, boundary: _Boundaries, walk: _Walk, batch: Batch, iterates: Images, targets: Labels
) -> tuple[Images, PerExample]:
    """Algorithm 1. Returns the shortest perturbation that fools the model, and its length (∞ if there is none).

    With `active_set`, an example is finished with the first perturbation that is no longer than ε.
    """
    kept, shortest = batch.images.clone(), torch.full_like(length(batch.images, batch.norm), torch.inf)
    rows = torch.arange(len(kept), device=kept.device)
    for _ in range(walk.steps):
        if walk.active_set and batch.eps < math.inf:
            alive = (shortest[rows] > batch.eps).nonzero().squeeze(1)
            if len(alive) == 0:
                break
            if len(alive) < len(rows):
                rows, iterates, targets, batch = rows[alive], iterates[alive], targets[alive], rows_of(batch, alive)
        iterates = _step(boundary, iterates, batch, targets, walk)
        fools = mean_lead(model, iterates, batch.labels) >= 0
        lengths = length(iterates - batch.images, batch.norm)
        shorter = fools & (lengths < shortest[rows])
        kept[rows] = torch.where(per_image(shorter), iterates, kept[rows])
        shortest[rows] = torch.where(shorter, lengths, shortest[rows])
        iterates = torch.where(per_image(fools), batch.images + walk.beta * (iterates - batch.images), iterates)
    return kept, shortest


def _step(boundary: _Boundaries, iterates: Images, batch: Batch, targets: Labels, walk: _Walk) -> Images:
    """Algorithm 1, lines 4 to 8: from the iterate and from the image, `eta` times the way to the plane, then mixed."""
    difference, gradient = _near_one(*boundary(iterates, batch.labels, targets))
    offset = (gradient * iterates).flatten(1).sum(1) - difference
    from_iterate = onto_hyperplane(iterates, gradient, offset, batch.norm, walk.bounds)
    from_image = onto_hyperplane(batch.images, gradient, offset, batch.norm, walk.bounds)
    first, second = (length(move, batch.norm).clamp_min(1e-8) for move in (from_iterate, from_image))
    alpha = per_image((first / (first + second)).clamp(0, walk.alpha_max))
    mixed = (1 - alpha) * (iterates + walk.eta * from_iterate) + alpha * (batch.images + walk.eta * from_image)
    return mixed.clamp(*walk.bounds)


def _near_one(difference: PerExample, gradient: Images) -> tuple[PerExample, Images]:
    """The same hyperplane, with the largest entry of its normal between 1/2 and 1.

    The scale of the logits does not change the plane, but the squares of a tiny normal vector underflow. The factor is
    a power of two, so the projection onto an ordinary plane does not change by a single bit.
    """
    _, exponent = torch.frexp(length(gradient, "linf"))
    half = torch.div(-exponent, 2, rounding_mode="floor")
    first, second = (torch.exp2(part.to(gradient.dtype)) for part in (half, -exponent - half))
    return difference * first * second, gradient * per_image(first) * per_image(second)


def onto_hyperplane(
    points: Images, normal: Images, offset: PerExample, norm: Norm, bounds: tuple[float, float]
) -> Images:
    """The smallest move d with normal·(points + d) = offset and points + d in the box (section 3.1, eq. 6 to 9).

    Pixel i moves by min(λ·u_i, room_i) against the excess, where u_i = 1 for L∞ and |normal_i| for L2. The sum
    Σ |normal_i|·min(λ·u_i, room_i) is piecewise linear and increasing in λ. The λ at which it equals the excess is
    found by sorting the ends of the pieces. If no point of the box lies on the plane, every pixel moves as far as it
    can. For L1, pixels move one after the other (`_greedy_move`).
    """
    weight = normal.flatten(1).abs()
    flat = points.flatten(1)
    excess = (normal * points).flatten(1).sum(1) - offset
    direction = -normal.flatten(1).sign() * excess.sign()[:, None]
    room = torch.where(direction > 0, bounds[1] - flat, flat - bounds[0]).clamp_min(0).where(direction != 0, 0.0)
    if norm == "l1":
        return (direction * _greedy_move(weight, room, excess.abs())).view_as(points)
    speed = torch.ones_like(weight) if norm == "linf" else weight
    ends, order = (room / speed).nan_to_num(nan=0.0, posinf=0.0).sort(1)
    fast, full = ((weight * each).gather(1, order) for each in (speed, room))
    slope = fast.sum(1, keepdim=True) - fast.cumsum(1)
    # The sum at the end of each piece, and the piece that contains the excess.
    reached = full.cumsum(1) + ends * slope
    piece = torch.searchsorted(reached, excess.abs()[:, None]).clamp_max(weight.shape[1] - 1)
    before = torch.where(piece > 0, full.cumsum(1).gather(1, (piece - 1).clamp_min(0)), 0.0)
    rising = torch.where(piece > 0, slope.gather(1, (piece - 1).clamp_min(0)), fast.sum(1, keepdim=True))
    level = (excess.abs()[:, None] - before) / rising.clamp_min(torch.finfo(rising.dtype).tiny)
    level = torch.minimum(level, ends[:, -1:])
    return (direction * torch.minimum(level * speed, room)).view_as(points)


def _greedy_move(weight: Tensor, room: Tensor, excess: Tensor) -> Tensor:
    """The magnitudes of the smallest move in L1: pixels of the largest weight first, each through all of its room.

    The pixel that uses up the excess moves through a part of it. weight, room: [batch, pixels]; excess: [batch].
    """
    order = weight.argsort(stable=True, dim=1, descending=True)
    full = (weight * room).gather(1, order)
    before = full.cumsum(1) - full
    share = ((excess[:, None] - before) / full.clamp_min(torch.finfo(full.dtype).tiny)).clamp(0, 1)
    return torch.zeros_like(room).scatter(1, order, share) * room


def _towards(model: CheckedModel, iterates: Images, labels: Labels, targets: Labels) -> tuple[PerExample, Images]:
    """z_t − z_y and its gradient."""

    def difference(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
        values = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)
        return values, torch.zeros_like(values)

    found = slope(model, iterates[None], labels, difference)
    return _finite(found.values[0]), found.gradient[0]


def _nearest(
    model: CheckedModel, norm: Norm, iterates: Images, labels: Labels, targets: Labels
) -> tuple[PerExample, Images]:
    """z_j − z_y and its gradient for the class j whose linearised boundary is nearest."""
    with torch.enable_grad():
        inputs = iterates.detach().requires_grad_()
        logits: Logits = logits_of(model, inputs)
        differences = logits - logits.gather(1, labels[:, None])
        columns = (differences.sum(0) + 0 * inputs.sum()).unbind()
        gradients = torch.stack([torch.autograd.grad(column, inputs, retain_graph=True)[0] for column in columns])
    gradients = gradients.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    # The dual norm: how fast the difference can change per unit of the norm that ε bounds.
    order = DUAL_ORDER[norm]
    flat, tiny = gradients.flatten(2), torch.finfo(gradients.dtype).tiny
    # Divided by the largest entry first, because the squares of a tiny gradient underflow.
    largest = flat.abs().amax(2).clamp_min(tiny)
    dual = torch.linalg.vector_norm(flat / largest[..., None], ord=order, dim=2)
    distances = _finite(differences).abs() / largest.T / dual.T.clamp_min(tiny)
    nearest = distances.scatter(1, labels[:, None], torch.inf).argmin(1)
    return _finite(differences).gather(1, nearest[:, None]).squeeze(1), gradients[nearest, torch.arange(len(nearest))]


def _finite(values: Tensor) -> Tensor:
    return values.detach().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
