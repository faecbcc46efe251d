"""The loop of attacks with a fixed step size: step, project, keep the best iterate, drop examples that are fooled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import mean_lead
from grfd.attacks.ranges import COUNT, COUNT_OR_NONE, NOT_NEGATIVE, in_range
from grfd.attacks.threat import Batch, finished, project, rows_of, steepest
from grfd.errors import UserError
from grfd.types import Images, Labels, PerExample

State = tuple[Tensor, ...]
"""What an attack carries from step to step, for example momentum. The first axis of every tensor is the batch."""

FindDirection = Callable[[Images, Labels, State, bool], tuple[PerExample, Images, State]]
"""(iterates, labels, state, is the last step) -> (lead, direction of ascent, new state)."""

Start = Callable[[Batch, torch.Generator | None], Images]
"""(batch, generator) -> a first iterate inside ball and box."""


@dataclass(frozen=True)
class Ascent:
    """The settings of an ascent, as `pgd` describes them. Raises UserError where one is impossible."""

    step_size: float
    steps: int
    keep: str
    active_set: bool
    restarts: int = 1
    samples: int = 1
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.keep not in ("best", "last"):
            raise UserError(f"keep={self.keep!r}; expected 'best' or 'last'")
        in_range(step_size=(self.step_size, NOT_NEGATIVE), steps=(self.steps, COUNT_OR_NONE))
        in_range(restarts=(self.restarts, COUNT), samples=(self.samples, COUNT))


def _stateless(start: Images) -> State:
    return ()


def steepest_ascent(
    model: CheckedModel,
    batch: Batch,
    find_direction: FindDirection,
    ascent: Ascent,
    start: Start | None = None,
    initial_state: Callable[[Images], State] = _stateless,
) -> Images:
    """x ← P(x + step_size · steepest(direction)), `steps` times, `restarts` times over.

    Without a `start`, the images themselves are the first iterate.
    """
    result, best = batch.images.clone(), batch.images.new_full((len(batch.images),), -torch.inf)
    # Without a start, the first iterate is the clean image anyway.
    if start and (ascent.active_set or ascent.keep == "best"):
        best = mean_lead(model, batch.images, batch.labels, ascent.samples)
    for _ in range(ascent.restarts):
        rows = remaining(best, ascent.active_set)
        if len(rows) == 0:
            break
        part = rows_of(batch, rows)
        first = start(part, ascent.generator) if start else part.images
        iterates, leads = _climb(model, find_direction, ascent, part, first, initial_state(first))
        keep_better(result, best, rows, iterates, leads, always=ascent.keep == "last")
    return finished(result, batch)


def _climb(
    model: CheckedModel, find_direction: FindDirection, ascent: Ascent, batch: Batch, iterates: Images, state: State
) -> tuple[Images, PerExample]:
    """One ascent. Returns the iterate that is kept for each example, and its lead (−∞ where it is not needed).

    Signed steps soon run in circles: many iterates are bit-identical to an earlier one. Without a state, such an
    iterate would repeat the same path, on which every point has been evaluated, so with an active set it leaves.
    """
    kept, kept_lead = iterates.clone(), iterates.new_full((len(iterates),), -torch.inf)
    rows = torch.arange(len(iterates), device=iterates.device)
    circles = ascent.active_set and ascent.keep == "best" and not state
    always = ascent.keep == "last"
    visited = image_hashes(iterates)[None]

    for step in range(ascent.steps):
        leads, direction, state = find_direction(iterates, batch.labels, state, step == ascent.steps - 1)
        keep_better(kept, kept_lead, rows, iterates, leads, always=always)
        iterates = project(iterates + ascent.step_size * steepest(direction, batch.norm), batch)
        if ascent.active_set:
            going = leads < 0
            if circles:
                new, visited = _first_visits(iterates, visited)
                going &= new
            alive = going.nonzero().squeeze(1)
            if len(alive) == 0:
                return kept, kept_lead
            if len(alive) < len(rows):
                iterates, rows, *rest = (tensor[alive] for tensor in (iterates, rows, *state))
                batch, state, visited = rows_of(batch, alive), tuple(rest), visited[:, alive]
    if always and not ascent.active_set:
        return iterates, kept_lead
    leads = mean_lead(model, iterates, batch.labels, ascent.samples)
    keep_better(kept, kept_lead, rows, iterates, leads, always=always)
    return kept, kept_lead


def _first_visits(
    iterates: Images, visited: Int[Tensor, "visits batch"]
) -> tuple[Bool[Tensor, "batch"], Int[Tensor, "visits batch"]]:
    """Which iterates visit a point for the first time, and the hashes of all points visited so far."""
    hashes = image_hashes(iterates)
    return ~(visited == hashes).any(0), torch.cat([visited, hashes[None]])


def image_hashes(images: Images) -> Int[Tensor, "batch"]:
    """A 64-bit hash of each image's bits. Two different images share it with a probability below 10⁻¹²."""
    flat = images.flatten(1).contiguous()
    bits = flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])
    return (bits.long() * _odd_numbers(flat.shape[1], images.device)).sum(1)


@cache
def _odd_numbers(count: int, device: torch.device) -> Int[Tensor, "pixels"]:
    stream = torch.Generator().manual_seed(0)
    return (torch.randint(-(2**62), 2**62, (count,), generator=stream) * 2 + 1).to(device)
