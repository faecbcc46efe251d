"""C&W in L2 (Carlini & Wagner 2017, arXiv 1608.04644, section VI.A): it searches for the smallest perturbation."""

from typing import NamedTuple

import torch
from torch import Tensor

from grfd.attacks.active_set import remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import mean_lead, slope
from grfd.attacks.inputs import Model, check_stretch, searching
from grfd.attacks.losses import margin
from grfd.attacks.ranges import COUNT, NOT_NEGATIVE, POSITIVE, in_range, is_infinite
from grfd.attacks.threat import Batch, finished, length, per_image, rows_of, stretched
from grfd.types import Images, Labels, Logits, PerExample

_C_MAX = 1e10
"""Larger than every c that the search can reach by multiplying by ten."""

_INSIDE = 1 - 1e-6
"""Images are shrunk by this factor, so that their inverse under tanh is finite."""


class _Descent(NamedTuple):
    """The settings of a descent at one c."""

    steps: int
    confidence: float
    learning_rate: float
    active_set: bool
    bounds: tuple[float, float]


class _Moments(NamedTuple):
    """Moments of w's gradient (Kingma & Ba 2015, arXiv 1412.6980), one row per example."""

    first: Images
    second: Images


def cw(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 1000,
    search_steps: int = 9,
    initial_c: float = 1e-3,
    confidence: float = 0.0,
    learning_rate: float = 0.01,
    active_set: bool = True,
    stretch: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """min ‖x′ − x‖² + c·max(z_y − max_{j≠y} z_j + confidence, 0) by Adam over w, x′ = tanh(w) stretched to `bounds`.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε bounds the Euclidean length of the change, in
    pixels of [0, 1]. A longer perturbation is not a success, and the image is returned unchanged.

    - `search_steps`: values of c that are tried for each example. c is multiplied by ten until the model is fooled, and
      then found by bisection. TorchAttacks does not search: it takes 50 steps at c = 1.
    - `steps`: steps of Adam at each c. They end early where the objective no longer decreases.
    - `active_set`: an example is finished with its first success within ε. Pass False, or ε = ∞, for the *smallest*
      perturbation that the search finds.
    - `stretch`: the perturbation is scaled to the length ε, for images that are given to another model.
    - `generator` is unused, because nothing is drawn.

    Raises UserError for a wrong shape, range, ε or count.
    """
    in_range(steps=(steps, COUNT), search_steps=(search_steps, COUNT), initial_c=(initial_c, POSITIVE))
    in_range(confidence=(confidence, NOT_NEGATIVE), learning_rate=(learning_rate, POSITIVE))
    check_stretch(eps, stretch)
    active_set = active_set and not is_infinite(eps)
    descent = _Descent(steps, confidence, learning_rate, active_set, bounds)
    with searching(model, images, labels, eps, bounds, "l2") as (model, batch):
        result = batch.images.clone()
        best = mean_lead(model, batch.images, batch.labels)
        shortest = torch.where(best >= 0, 0.0, torch.inf).to(best)
        rows = remaining(best, True)  # a misclassified image needs no perturbation
        c, low, high = (torch.full_like(best, value) for value in (initial_c, 0.0, _C_MAX))
        for _ in range(search_steps):
            rows = rows[shortest[rows] > eps] if active_set else rows
            if len(rows) == 0:
                break
            part = rows_of(batch, rows)
            candidates, lengths = _descend(model, part, c[rows], descent)
            fooled = lengths < torch.inf
            shorter = lengths < shortest[rows]
            result[rows] = torch.where(per_image(shorter & ((lengths <= eps) | stretch)), candidates, result[rows])
            shortest[rows] = torch.where(shorter, lengths, shortest[rows])
            high[rows] = torch.where(fooled, c[rows].minimum(high[rows]), high[rows])
            low[rows] = torch.where(fooled, low[rows], c[rows].maximum(low[rows]))
            c[rows] = torch.where(high[rows] < _C_MAX, (low[rows] + high[rows]) / 2, 10 * c[rows])
        return finished(stretched(result, batch) if stretch else result, batch)


def _descend(model: CheckedModel, batch: Batch, c: PerExample, descent: _Descent) -> tuple[Images, PerExample]:
    """Adam at one c. Returns the shortest perturbation that reaches the confidence, and its length (∞ without one)."""
    steps, confidence, learning_rate, active_set, bounds = descent
    middle, half = (bounds[1] + bounds[0]) / 2, (bounds[1] - bounds[0]) / 2
    w = ((batch.images - middle) / half * _INSIDE).atanh()
    moments = _Moments(torch.zeros_like(w), torch.zeros_like(w))
    kept, shortest = batch.images.clone(), torch.full_like(c, torch.inf)
    rows, before = torch.arange(len(c), device=c.device), torch.inf
    for step in range(steps):
        if active_set:
            alive = (shortest[rows] > batch.eps).nonzero().squeeze(1)
            if len(alive) == 0:
                break
            if len(alive) < len(rows):
                rows, w, c, batch = rows[alive], w[alive], c[alive], rows_of(batch, alive)
                moments, before = _Moments(*(moment[alive] for moment in moments)), torch.inf
        tried = middle + half * w.tanh()
        change = tried - batch.images
        gradient, lead, weighed = _weighed(model, tried, batch.labels, c, confidence)
        lengths = length(change, "l2")
        shorter = (lead >= confidence) & (lengths < shortest[rows])
        kept[rows] = torch.where(per_image(shorter), tried, kept[rows])
        shortest[rows] = torch.where(shorter, lengths, shortest[rows])
        if step % max(steps // 10, 1) == 0:
            objective = (lengths.square() + weighed).sum().item()
            if objective > 0.9999 * before:
                break
            before = objective
        moments, move = _adam(moments, (2 * change + gradient) * half * (1 - w.tanh().square()), step)
        w = w - learning_rate * move
    return kept, shortest


def _weighed(
    model: CheckedModel, tried: Images, labels: Labels, c: PerExample, confidence: float
) -> tuple[Images, PerExample, PerExample]:
    """The gradient of c·max(confidence − margin, 0), the lead, and the value of this term."""

    def climb(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
        lacking = (confidence - margin(logits, labels)).clamp_min(0)
        return c * lacking, torch.zeros_like(lacking)

    slopes = slope(model, tried[None], labels, climb)
    return slopes.gradient[0], slopes.lead[0], slopes.values[0]


def _adam(moments: _Moments, gradient: Images, step: int) -> tuple[_Moments, Images]:
    first = 0.9 * moments.first + 0.1 * gradient
    second = 0.999 * moments.second + 0.001 * gradient.square()
    corrected: Tensor = (second / (1 - 0.999 ** (step + 1))).sqrt()
    return _Moments(first, second), first / (1 - 0.9 ** (step + 1)) / (corrected + 1e-8)
