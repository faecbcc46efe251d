"""The loop of the attacks of fixed step size: step, project, remember the best iterate, drop who is fooled."""

from collections.abc import Callable
from functools import cache, partial

import torch
from jaxtyping import Int
from torch import Tensor

from grfd.attacks.asked import Asked
from grfd.attacks.ranges import COUNT, COUNT_OR_NONE, NOT_NEGATIVE, in_range
from grfd.attacks.threat import (
    Batch,
    Model,
    Norm,
    attacking,
    finished,
    keep_better,
    mean_lead,
    project,
    remaining,
    rows_of,
    steepest,
)
from grfd.errors import UserError
from grfd.types import Images, Labels, PerExample

State = tuple[Tensor, ...]
"""What an attack carries from step to step (momentum, say): the first axis of every tensor is the batch."""

Look = Callable[[Asked, Images, Labels, State, bool], tuple[PerExample, Images, State]]
"""(model, iterates, labels, state, is the last) -> (lead, direction of ascent, new state)."""

LookAt = Callable[[Images, Labels, State, bool], tuple[PerExample, Images, State]]
"""The same, of a model that is given."""

Start = Callable[[Batch, torch.Generator | None], Images]
"""(batch, generator) -> a first iterate inside ball and box."""


def steepest_ascent(
    model: Model,
    images: Images,
    labels: Labels,
    look: Look,
    initial_state: Callable[[Images], State],
    *,
    eps: float,
    step_size: float,
    steps: int,
    start: Start | None,
    restarts: int,
    samples: int,
    keep: str,
    active_set: bool,
    bounds: tuple[float, float],
    generator: torch.Generator | None,
    norm: Norm = "linf",
) -> Images:
    """x ← P(x + step_size · steepest(direction)), `steps` times, `restarts` times over; see `pgd` for the keywords.

    Without a `start` the images themselves are the first iterate. Raises UserError where an argument is impossible.
    """
    if keep not in ("best", "last"):
        raise UserError(f"{keep=}; expected 'best' or 'last'")
    in_range(step_size=(step_size, NOT_NEGATIVE), steps=(steps, COUNT_OR_NONE))
    in_range(restarts=(restarts, COUNT), samples=(samples, COUNT))
    with attacking(model, images, labels, eps, bounds, norm) as (model, batch):
        climb = partial(_climb, model, partial(look, model), step_size, steps, samples, keep, active_set)
        result, best = batch.images.clone(), batch.images.new_full((len(images),), -torch.inf)
        # Without a start of its own the first look is at the clean images anyway.
        if start and (active_set or keep == "best"):
            best = mean_lead(model, batch.images, batch.labels, samples)
        for _ in range(restarts):
            rows = remaining(best, active_set)
            if len(rows) == 0:
                break
            part = rows_of(batch, rows)
            first = start(part, generator) if start else part.images
            found, leads = climb(first, part, initial_state(first))
            keep_better(result, best, rows, found, leads, always=keep == "last")
        return finished(result, batch)


def _climb(
    model: Asked,
    look: LookAt,
    step_size: float,
    steps: int,
    samples: int,
    keep: str,
    active_set: bool,
    iterates: Images,
    batch: Batch,
    state: State,
) -> tuple[Images, PerExample]:
    """One ascent: the iterate kept for each example, and its lead (−∞ where nothing asked for it).

    Signed steps soon run in circles: many an iterate comes back to the bit. Without a state the rest of its path is
    then known, and every point of it was looked at, so with an active set it leaves.
    """
    found, found_lead = iterates.clone(), iterates.new_full((len(iterates),), -torch.inf)
    rows = torch.arange(len(iterates), device=iterates.device)
    circles = active_set and keep == "best" and not state
    visited = fingerprint(iterates)[None]

    for step in range(steps):
        leads, direction, state = look(iterates, batch.labels, state, step == steps - 1)
        keep_better(found, found_lead, rows, iterates, leads, always=keep == "last")
        iterates = project(iterates + step_size * steepest(direction, batch.norm), batch)
        if active_set:
            going = leads < 0
            if circles:
                marks = fingerprint(iterates)
                going &= ~(visited == marks).any(0)
                visited = torch.cat([visited, marks[None]])
            alive = going.nonzero().squeeze(1)
            if len(alive) == 0:
                return found, found_lead
            if len(alive) < len(rows):
                iterates, rows, *rest = (tensor[alive] for tensor in (iterates, rows, *state))
                batch, state, visited = rows_of(batch, alive), tuple(rest), visited[:, alive]
    if keep == "last" and not active_set:
        return iterates, found_lead
    leads = mean_lead(model, iterates, batch.labels, samples)
    keep_better(found, found_lead, rows, iterates, leads, always=keep == "last")
    return found, found_lead


def fingerprint(images: Images) -> Int[Tensor, "batch"]:
    """64 bits of each image's bits: two different images share them by an accident of less than one in 10¹²."""
    flat = images.flatten(1).contiguous()
    bits = flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])
    return (bits.long() * _odd_numbers(flat.shape[1], images.device)).sum(1)


@cache
def _odd_numbers(count: int, device: torch.device) -> Int[Tensor, "pixels"]:
    stream = torch.Generator().manual_seed(0)
    return (torch.randint(-(2**62), 2**62, (count,), generator=stream) * 2 + 1).to(device)
