"""The judge: runs attacks on models under protocols, batch by batch, and keeps a record an example. It resumes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd.attacks import ATTACKS, TABLE_1
from grfd.data.record import Split, as_images
from grfd.defenses import has_residual, is_stochastic
from grfd.errors import UserError
from grfd.evaluate import protocols, records
from grfd.evaluate.attacker import VOTES, predictions
from grfd.evaluate.protocols import PROTOCOLS, Outcome
from grfd.evaluate.records import Record
from grfd.memory import keep_freed_memory
from grfd.progress import progress
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

BATCH = 500
SOURCE = "standard"
"""The model on which transferred adversarial examples are made."""
CONTROL = "second-standard"
"""The model that is there for `transfer` alone: what it keeps is no defense."""


@dataclass(frozen=True)
class Case:
    """What is judged: models by name (one of them the standard model), images, and where the records go."""

    folder: Path
    models: dict[str, nn.Module]
    split: Split
    budgets: dict[str, dict[str, Any]]
    seed: int
    device: torch.device


@dataclass(frozen=True)
class Cell:
    """One attack on one model under one protocol: one record file."""

    model: str
    protocol: str
    attack: str


def budgets_for(channels: int) -> dict[str, dict[str, Any]]:
    """Table 1's budgets: MNIST's for grey images, CIFAR's for colour."""
    return TABLE_1["mnist" if channels == 1 else "cifar"]


def cells(models: dict[str, nn.Module], wanted: list[str], attacks: list[str]) -> list[Cell]:
    """What there is to do, in order: whitebox and transfer come first, since adaptive builds on them.

    Raises `UserError` for an unknown protocol or attack.
    """
    for kind, names, known in (("protocol", wanted, list(PROTOCOLS)), ("attack", attacks, list(ATTACKS))):
        for name in names:
            if name not in known:
                raise UserError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")
    needed = {*wanted, *(("whitebox", "transfer") if "adaptive" in wanted else ())}
    order = [name for name in ("whitebox", "transfer", "residual", "adaptive") if name in needed]
    return [
        Cell(model, protocol, attack)
        for attack in attacks
        for protocol in order
        for model, defense in models.items()
        if _applies(model, protocol, defense)
    ]


def _applies(model: str, protocol: str, defense: nn.Module) -> bool:
    if protocol == "transfer":
        return model != SOURCE
    return model != CONTROL and (protocol != "residual" or has_residual(defense))


def evaluate(case: Case, wanted: list[str], attacks: list[str], examples: int) -> None:
    """Writes the records that are missing, up to the first `examples` images of the split."""
    examples = min(examples, len(case.split))
    todo = cells(case.models, wanted, attacks)
    for cell in todo:
        _discard_other_settings(case, cell)
    total = sum(max(examples - _done(case, cell), 0) * _cost(cell) for cell in todo)
    if not total:
        return
    keep_freed_memory()
    # batches outside, cells inside: a transferred batch is crafted once for all models
    with progress("attacks", total) as advance:
        for attack in attacks:
            mine = [cell for cell in todo if cell.attack == attack]
            for start in _starts(case, mine, examples):
                _batch(case, mine, start, examples, advance)


def _cost(cell: Cell) -> int:
    """Roughly, relative to the others: what the time left is reckoned from."""
    steps = {"fgsm": 1, "pgd": 10, "eotpgd": 20, "vmifgsm": 60, "aa": 60}[cell.attack]
    return 1 if cell.protocol == "transfer" else steps


def _starts(case: Case, mine: list[Cell], examples: int) -> Iterator[int]:
    """Where the next batch of the cell that is furthest behind begins."""
    while (start := min(_done(case, cell) for cell in mine)) < examples:
        yield start


@torch.no_grad()
def _batch(case: Case, mine: list[Cell], start: int, examples: int, advance: Callable[[int, str], None]) -> None:
    stop = min(start + BATCH, examples)
    later = [done for cell in mine if (done := _done(case, cell)) > start]
    stop = min([stop, *later])
    images = as_images(case.split.images[start:stop].to(case.device))
    labels = case.split.labels[start:stop].to(case.device)
    crafted: dict[str, protocols.Crafted] = {}
    outcomes: dict[tuple[str, str], Outcome] = {}
    for cell in mine:
        if _done(case, cell) == start:
            outcome = _outcome(case, cell, images, labels, start, crafted, outcomes)
            outcomes[cell.model, cell.protocol] = outcome
            record = _record(case, cell, images, labels, outcome, start)
            records.append(_path(case, cell), record)
            text = f"{cell.attack} {cell.protocol} {cell.model}: {record.robust.mean():.1%} of {stop - start} right"
            advance((stop - start) * _cost(cell), text)


def _outcome(
    case: Case,
    cell: Cell,
    images: Images,
    labels: Labels,
    start: int,
    crafted: dict[str, protocols.Crafted],
    outcomes: dict[tuple[str, str], Outcome],
) -> Outcome:
    defense, settings = case.models[cell.model], case.budgets[cell.attack]
    stream = generator(case.seed, "evaluate", cell.model, cell.protocol, cell.attack, start, device=case.device)
    with seeded(case.seed, "model noise", cell.model, cell.protocol, cell.attack, start):
        if cell.protocol == "residual":
            return protocols.residual(defense, images, labels, cell.attack, settings, stream)
        if cell.protocol == "adaptive":
            found = [_found(case, cell, protocol, start, len(labels)) for protocol in ("whitebox", "transfer")]
            known = [outcome for outcome in found if outcome is not None]
            return protocols.adaptive(defense, images, labels, cell.attack, settings, known, stream)
        if cell.protocol == "whitebox" and cell.model != SOURCE:
            return protocols.whitebox(defense, images, labels, cell.attack, settings, stream)
        if SOURCE not in crafted:
            source = generator(case.seed, "evaluate", SOURCE, "whitebox", cell.attack, start, device=case.device)
            crafted[SOURCE] = protocols.craft(case.models[SOURCE], images, labels, cell.attack, settings, source)
        return protocols.judged(defense, images, crafted[SOURCE])


def _found(case: Case, cell: Cell, protocol: str, start: int, count: int) -> Outcome | None:
    """What another protocol did to these images."""
    record = records.read(records.path_of(case.folder, cell.model, protocol, cell.attack))
    if record is None:
        return None
    part = record.rows(start, start + count).columns
    columns = (part["adversarial_prediction"], part["norm"], part["queries"])
    return Outcome(*(torch.from_numpy(column).to(case.device) for column in columns))


def _record(case: Case, cell: Cell, images: Images, labels: Labels, outcome: Outcome, start: int) -> Record:
    victim = case.models[cell.model]
    with seeded(case.seed, "clean", cell.model, start):
        clean = _clean(victim, cell.protocol, images)
    columns = {
        "index": torch.arange(start, start + len(labels)),
        "label": labels,
        "clean_prediction": clean,
        "adversarial_prediction": outcome.prediction,
        "norm": outcome.norm.float(),
        "queries": outcome.queries.float(),
    }
    return Record({name: values.cpu().numpy() for name, values in columns.items()}, _settings(case, cell))


def _clean(victim: nn.Module, protocol: str, images: Images) -> torch.Tensor:
    if protocol == "residual":
        return predictions(victim.target, victim.residual(images))  # type: ignore[arg-type,operator]
    return predictions(victim, images)


def _settings(case: Case, cell: Cell) -> dict[str, Any]:
    """What is recorded with the examples; a record of other settings is made anew."""
    settings: dict[str, Any] = {"attack": case.budgets[cell.attack], "seed": case.seed}
    if cell.protocol == "adaptive":
        settings["extra"] = [[name, changes] for name, changes in protocols.EXTRA.get(cell.attack, ())]
    if is_stochastic(case.models[cell.model]):
        settings["votes"] = VOTES
        settings["rule"] = "an example counts as fooled when the majority of the votes is wrong"
    return settings


def _path(case: Case, cell: Cell) -> Path:
    return records.path_of(case.folder, cell.model, cell.protocol, cell.attack)


def _done(case: Case, cell: Cell) -> int:
    record = records.read(_path(case, cell))
    return 0 if record is None else len(record)


def _discard_other_settings(case: Case, cell: Cell) -> None:
    record = records.read(_path(case, cell))
    if record is not None and record.settings != _settings(case, cell):
        _path(case, cell).unlink()
