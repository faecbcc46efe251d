"""The active set: which examples are still attacked, and the best iterate of each so far."""

import torch
from jaxtyping import Float
from torch import Tensor

from grfd.attacks.threat import Rows, per_image
from grfd.types import Images, PerExample

RowImages = Float[Tensor, "rows channel height width"]
PerRow = Float[Tensor, "rows"]


def remaining(leads: PerExample, active_set: bool) -> Rows:
    """Indices of the examples to attack: all, or those that do not fool the model yet (one host synchronisation)."""
    rows = torch.arange(len(leads), device=leads.device)
    return rows[leads < 0] if active_set else rows


def keep_better(
    result: Images, best: PerExample, rows: Rows, candidates: RowImages, leads: PerRow, always: bool = False
) -> None:
    """Copies candidates of a larger lead (or all, if `always`) to these rows of `result`, their leads to `best`."""
    better = (leads > best[rows]) | always
    result[rows] = torch.where(per_image(better), candidates, result[rows])
    best[rows] = torch.where(better, leads, best[rows])
