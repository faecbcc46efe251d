"""Pixle (Pomponi et al. 2022, arXiv 2202.02236): pixels are copied to other places of the image, without gradients."""

import torch
from torch import Tensor

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel, logits_of
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import lead, log_odds
from grfd.attacks.ranges import COUNT, Range, in_range
from grfd.attacks.threat import Batch, finished, per_image, project, rows_of, uniform
from grfd.types import Images, Labels, PerExample


def pixle(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float = 1.0,
    restarts: int = 20,
    patches: int = 10,
    smallest: int = 2,
    largest: int = 10,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """`restarts` times: tries `patches` random patches, and keeps the one after which the true class is least likely.

    images [batch, channel, height, width] in `bounds`; labels [batch]. The pixels of a patch of the clean image (sides
    from `smallest` to `largest`, cut at the border) are copied to random places, each of which occurs once in a patch.
    TorchAttacks draws the places independently. Few pixels change, but each by any amount: `eps` only exists because
    all attacks have it, and 1.0 bounds nothing in [0, 1]. Candidates are compared by m (`losses.log_odds`), which
    increases as the true class becomes less likely, also where its probability rounds to 1.
    Raises UserError for a wrong shape, range or count.
    """
    in_range(restarts=(restarts, COUNT), patches=(patches, COUNT), smallest=(smallest, COUNT))
    in_range(largest=(largest, Range(smallest, whole=True)))
    with attacking(model, images, labels, eps, bounds) as (model, batch):
        result, base = batch.images.clone(), batch.images.clone()
        if len(images) == 0:
            return finished(result, batch)
        likely, best = _judged(model, batch.images, batch.labels)
        rows = remaining(best, active_set)
        for _ in range(restarts):
            placed = base.clone()
            for _ in range(patches):
                rows = rows[best[rows] < 0] if active_set else rows
                if len(rows) == 0:
                    return finished(result, batch)
                part = rows_of(batch, rows)
                tried = project(_set_down(part, base[rows], smallest, largest, generator), part)
                odds, leads = _judged(model, tried, part.labels)
                better = odds > likely[rows]
                placed[rows] = torch.where(per_image(better), tried, placed[rows])
                likely[rows] = torch.where(better, odds, likely[rows])
                keep_better(result, best, rows, tried, leads)
            base = placed
        return finished(result, batch)


def _judged(model: CheckedModel, images: Images, labels: Labels) -> tuple[PerExample, PerExample]:
    """m and the lead, from one forward pass."""
    with torch.no_grad():
        logits = logits_of(model, images)
        return log_odds(logits, labels), lead(logits, labels)


def _set_down(batch: Batch, onto: Images, smallest: int, largest: int, generator: torch.Generator | None) -> Images:
    """Copies one random patch of each clean image to random places of `onto`."""
    count, channels, height, width = batch.images.shape
    draws = uniform(onto, (4, count), 0.0, 1.0, generator)
    sides = (smallest + draws[:2] * (largest - smallest + 1)).long().clamp_max(largest)
    top, left = (
        (draw * size).long().clamp_max(size - 1) for draw, size in zip(draws[2:], (height, width), strict=True)
    )
    row = torch.arange(height, device=onto.device)[:, None]
    column = torch.arange(width, device=onto.device)
    edges = [each[:, None, None] for each in (top, top + sides[0], left, left + sides[1])]
    inside = ((row >= edges[0]) & (row < edges[1]) & (column >= edges[2]) & (column < edges[3])).flatten(1)
    # The sources come first, in random order. As many places, from the start of another random order, receive them.
    sources = (uniform(onto, inside.shape, 0.0, 1.0, generator) + ~inside).argsort(1)
    places = uniform(onto, inside.shape, 0.0, 1.0, generator).argsort(1)
    taken = torch.arange(height * width, device=onto.device) < inside.sum(1, keepdim=True)
    pixels = _gather(batch.images, sources)
    kept = _gather(onto, places)
    moved = torch.where(taken[:, None], pixels, kept)
    index = places[:, None].expand(-1, channels, -1)
    return onto.flatten(2).scatter(2, index, moved).view_as(onto)


def _gather(images: Images, order: Tensor) -> Tensor:
    """[batch, channel, pixels], with the pixels in the given order."""
    return images.flatten(2).gather(2, order[:, None].expand(-1, images.shape[1], -1))
