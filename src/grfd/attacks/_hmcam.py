"""HMCAM (Wang et al. 2020, arXiv 2010.07849): a Markov chain of adversarial images, moved by accumulated momentum.

A reading of the paper and of its authors' code, which differ: each link of the chain takes `steps` of an AMSGrad-like
leapfrog (β₁ 0.95, β₂ 0.999, as in the code) and is accepted or refused by Metropolis's rule.
"""

import torch

from grfd.attacks.asked import Asked, answers
from grfd.attacks.losses import cross_entropy, log_odds
from grfd.attacks.ranges import COUNT, NOT_NEGATIVE, in_range
from grfd.attacks.threat import (
    Batch,
    Model,
    attacking,
    finished,
    keep_better,
    mean_lead,
    normal,
    per_image,
    project,
    remaining,
    rows_of,
    slope,
    uniform,
)
from grfd.types import Images, Labels, Logits, PerExample

DECAY, SQUARES_DECAY = 0.95, 0.999


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
    """`links` samples from exp(CE) inside the ball; returns the iterate that the model gets most wrong.

    A step is sign(momentum)·min(ε, step_size ÷ root of the largest mean square of each pixel's gradient), and ends in
    the ball. The momentum of a link begins at random, N(0, I) times the first gradient's mean |·|. Gradients are those
    of m (`losses.log_odds`), which point as the cross-entropy's and do not vanish. images [batch, channel, height,
    width] in `bounds`; labels [batch]; ε and step_size in pixels of [0, 1]. Raises UserError for a wrong shape, range,
    ε or count.
    """
    in_range(step_size=(step_size, NOT_NEGATIVE), steps=(steps, COUNT), links=(links, COUNT))
    with attacking(model, images, labels, eps, bounds) as (model, batch):
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels)
        states = batch.images.clone()
        for _ in range(links):
            rows = remaining(best, active_set)
            if len(rows) == 0:
                break
            part = rows_of(batch, rows)
            found, leads, last = _link(model, part, states[rows], step_size, steps, active_set, generator)
            keep_better(result, best, rows, found, leads)
            energies = [_energy(model, state, part.labels) for state in (states[rows], last)]
            chance = uniform(energies[0], (len(rows),), 0.0, 1.0, generator)
            accepted = (energies[1] - energies[0]).exp() > chance
            states[rows] = torch.where(per_image(accepted), last, states[rows])
        return finished(result, batch)


def _energy(model: Asked, images: Images, labels: Labels) -> PerExample:
    with torch.no_grad():
        return cross_entropy(answers(model, images), labels).nan_to_num(nan=torch.inf)


def _climb(logits: Logits, labels: Labels) -> tuple[PerExample, PerExample]:
    values = log_odds(logits, labels)
    return values, torch.zeros_like(values)


def _link(
    model: Asked,
    batch: Batch,
    iterates: Images,
    step_size: float,
    steps: int,
    active_set: bool,
    generator: torch.Generator | None,
) -> tuple[Images, PerExample, Images]:
    """One link: the iterate that the model gets most wrong, its lead, and where the link ends."""
    found, found_lead = iterates.clone(), iterates.new_full((len(iterates),), -torch.inf)
    last = iterates.clone()
    rows = torch.arange(len(iterates), device=iterates.device)
    momentum, squares, largest = (torch.zeros_like(iterates) for _ in range(3))
    for step in range(1, steps + 1):
        seen = slope(model, iterates[None], batch.labels, _climb)
        gradient, leads = seen.gradient[0], seen.lead[0]
        keep_better(found, found_lead, rows, iterates, leads)
        if step == 1:
            scale = gradient.abs().mean((1, 2, 3), keepdim=True)
            momentum = scale * normal(iterates, tuple(iterates.shape), generator)
        momentum = DECAY * momentum + (1 - DECAY) * gradient
        squares = SQUARES_DECAY * squares + (1 - SQUARES_DECAY) * gradient.square()
        largest = largest.maximum(squares)
        root = (largest / (1 - SQUARES_DECAY**step)).sqrt()
        pace = (step_size / (1 - DECAY**step) / (root + 1e-7)).clamp_max(batch.eps)
        iterates = project(iterates + pace * momentum.sign(), batch)
        last[rows] = iterates
        if active_set and len(alive := remaining(leads, True)) < len(rows):
            rows, batch = rows[alive], rows_of(batch, alive)
            iterates, momentum, squares, largest = (t[alive] for t in (iterates, momentum, squares, largest))
            if len(rows) == 0:
                return found, found_lead, last
    keep_better(found, found_lead, rows, iterates, mean_lead(model, iterates, batch.labels))
    return found, found_lead, last
