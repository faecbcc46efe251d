"""How many queries a black-box attack needs: the share of images that it has fooled after each number of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from grfd.attacks._hopskipjump import HopSkipJumpSettings, hopskipjump_rounds
from grfd.attacks._simba import SimbaSettings, simba_rounds
from grfd.attacks._square import SquareSettings, square_rounds
from grfd.attacks.budgets import Ball
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import mean_lead
from grfd.attacks.inputs import attacking
from grfd.attacks.threat import Batch
from grfd.errors import UserError
from grfd.evaluation.attacker import answer
from grfd.types import Images, Labels

_BOX = (0.0, 1.0)


class Search(NamedTuple):
    """A black-box search: the attack, what it may change, its most queries for each image, and its random stream."""

    attack: str
    ball: Ball
    queries: int
    generator: torch.Generator | None = None


_Rounds = Iterator[tuple[int | Tensor, Tensor]]
"""(queries so far, of each image or of all alike; whether each image is fooled within ε)."""


def success_over_queries(
    model: nn.Module, images: Images, labels: Labels, search: Search, counts: Sequence[int]
) -> list[float]:
    """For each number in `counts` the share of images that are misclassified after at most that many queries.

    images [batch, channel, height, width] in [0, 1]; labels [batch]. All numbers come from one run. An image that is
    misclassified without an attack counts as fooled by 0 queries. Raises `UserError` for an attack that is no search by
    queries, and for what the attack itself refuses.
    """
    if search.attack not in SEARCHES:
        raise UserError(f"{search.attack!r} counts no queries: expected one of {', '.join(SEARCHES)}")
    needed = torch.full((len(images),), torch.inf)
    norm, eps = search.ball
    with attacking(lambda each: answer(model, each), images, labels, eps, _BOX, norm) as (checked, batch):
        wrong = mean_lead(checked, batch.images, batch.labels) >= 0
        needed[wrong.cpu()] = 0
        for spent, fooled in SEARCHES[search.attack](checked, batch, search):
            first = fooled.cpu() & needed.isinf()
            needed = torch.where(first, torch.as_tensor(spent, dtype=needed.dtype, device="cpu"), needed)
    return [float((needed <= count).float().mean()) for count in counts]


def _square(model: CheckedModel, batch: Batch, search: Search) -> _Rounds:
    clean = mean_lead(model, batch.images, batch.labels)
    settings = SquareSettings(search.queries, 0.8, True, 1, True, search.generator)
    for spent, _, leads in square_rounds(model, batch, clean, settings):
        yield spent, leads >= 0


def _simba(model: CheckedModel, batch: Batch, search: Search) -> _Rounds:
    if batch.norm != "l2":
        raise UserError(f"simba in a ball of norm={batch.norm!r}; expected 'l2', the length that it bounds")
    settings = SimbaSettings(search.queries, 0.2, None, True, _BOX, search.generator)
    for spent, _, leads in simba_rounds(model, batch, settings):
        yield spent, leads >= 0


def _hopskipjump(model: CheckedModel, batch: Batch, search: Search) -> _Rounds:
    if batch.norm not in ("linf", "l2"):
        raise UserError(f"hopskipjump in a ball of norm={batch.norm!r}; expected 'linf' or 'l2'")
    settings = HopSkipJumpSettings(search.queries, 100, True, _BOX, search.generator)
    for spent, shortest in hopskipjump_rounds(model, batch, settings):
        yield spent, shortest.lengths <= batch.eps


SEARCHES: dict[str, Callable[[CheckedModel, Batch, Search], _Rounds]] = {
    "square": _square,
    "simba": _simba,
    "hopskipjump": _hopskipjump,
}
"""Attack → its rounds. Square does not count the query of the clean image, the others do."""
