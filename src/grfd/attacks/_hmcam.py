"""HMCAM (Wang et al. 2020, arXiv 2010.07849): a Markov chain of adversarial images, moved by accumulated momentum.

The paper and its authors' code differ. In our reading, each link of the chain takes `steps` leapfrog steps in the
manner of AMSGrad (β₁ 0.95, β₂ 0.999, as in the code), and the Metropolis rule accepts or rejects the link.
"""

from typing import NamedTuple

import torch

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel, logits_of
from grfd.attacks.gradients import mean_lead, slope
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import cross_entropy, log_odds
from grfd.attacks.ranges import COUNT, NOT_NEGATIVE, in_range
from grfd.attacks.threat import Batch, finished, normal, per_image, project, rows_of, uniform
from grfd.types import Images, Labels, Logits, PerExample

_DECAY, _SQUARES_DECAY = 0.95, 0.999


class _Leapfrog(NamedTuple):
    """The settings of one link of the chain."""

    step_size: float
    steps: int
    active_set: bool
    generator: torch.Generator | None


def hmcam(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    step_size: float,
    steps: int,
    links: int = 5,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """Draws `links` samples from exp(CE) inside the ball, and returns the iterate that the model gets most wrong.

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1]. A step is
    sign(momentum)·min(ε, step_size ÷ root of the largest mean square of each pixel's gradient), followed by the
    projection onto the ball. Each link starts with a random momentum, N(0, I) times the mean |·| of the first gradient.
    Gradients are those of m (`losses.log_odds`), which have the direction of the cross-entropy's and do not vanish.
    With `active_set`, an example leaves the batch at its first success.
    Raises UserError for a wrong shape, range, ε or count.
    """
    in_range(step_size=(step_size, NOT_NEGATIVE), steps=(steps, COUNT), links=(links, COUNT))
    leapfrog = _Leapfrog(step_size, steps, active_set, generator)
    with attacking(model, images, labels, eps, bounds) as (model, batch):
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels)
        states = batch.images.clone()
        for _ in range(links):
            rows = remaining(best, active_set)
            if len(rows) == 0:
                break
            part = rows_of(batch, rows)
            kept, leads, last = _link(model, part, states[rows], leapfrog)
            keep_better(result, best, rows, kept, leads)
            energies = [_energy(model, state, part.labels) for state in (states[rows], last)]
            chance = uniform(energies[0], (len(rows),), 0.0, 1.0, generator)
            accepted = (energies[1] - energies[0]).exp() > chance
            states[rows] = torch.where(per_image(accepted), last, states[rows])
        return finished(result, batch)


def _energy(model: CheckedModel, images: Images, labels: Labels) -> PerExample:
    with torch.no_grad():
        return cross_entropy(logits_of(model, images), labels).nan_to_num(nan=torch.inf)


def _climb(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
    values = log_odds(logits, labels)
    return values, torch.zeros_like(values)


def _link(
    model: CheckedModel, batch: Batch, iterates: Images, leapfrog: _Leapfrog
) -> tuple[Images, PerExample, Images]:
    """One link. Returns the iterate that the model gets most wrong, its lead, and the end of the link."""
    kept, kept_lead = iterates.clone(), iterates.new_full((len(iterates),), -torch.inf)
    last = iterates.clone()
    rows = torch.arange(len(iterates), device=iterates.device)
    momentum, squares, largest = (torch.zeros_like(iterates) for _ in range(3))
    for step in range(1, leapfrog.steps + 1):
        slopes = slope(model, iterates[None], batch.labels, _climb)
        gradient, leads = slopes.gradient[0], slopes.lead[0]
        keep_better(kept, kept_lead, rows, iterates, leads)
        if step == 1:
            scale = gradient.abs().mean((1, 2, 3), keepdim=True)
            momentum = scale * normal(iterates, tuple(iterates.shape), leapfrog.generator)
        momentum = _DECAY * momentum + (1 - _DECAY) * gradient
        squares = _SQUARES_DECAY * squares + (1 - _SQUARES_DECAY) * gradient.square()
        largest = largest.maximum(squares)
        root = (largest / (1 - _SQUARES_DECAY**step)).sqrt()
        pace = (leapfrog.step_size / (1 - _DECAY**step) / (root + 1e-7)).clamp_max(batch.eps)
        iterates = project(iterates + pace * momentum.sign(), batch)
        last[rows] = iterates
        if leapfrog.active_set and len(alive := remaining(leads, True)) < len(rows):
            rows, batch = rows[alive], rows_of(batch, alive)
            iterates, momentum, squares, largest = (t[alive] for t in (iterates, momentum, squares, largest))
            if len(rows) == 0:
                return kept, kept_lead, last
    keep_better(kept, kept_lead, rows, iterates, mean_lead(model, iterates, batch.labels))
    return kept, kept_lead, last
