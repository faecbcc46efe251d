"""The judge: runs attacks on models under protocols, batch by batch, and keeps a record an example. It resumes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd import processes
from grfd.attacks import ATTACKS, OTHER_ATTACKS, OTHER_BUDGETS, TABLE_1
from grfd.data.record import Split, as_images
from grfd.defenses import has_residual, is_stochastic
from grfd.errors import UserError
from grfd.evaluate import protocols, records
from grfd.evaluate.attacker import may_reject, predictions, votes_of, without_randomness
from grfd.evaluate.protocols import PROTOCOLS, Outcome
from grfd.evaluate.records import Record
from grfd.memory import keep_freed_memory
from grfd.progress import progress
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

BATCH = 500
SOURCE = "standard"
"""The model of a run on which transferred adversarial examples are made."""
CONTROL = "second-standard"
"""The model of a run that is there for `transfer` alone: what it keeps is no defense."""
KNOWN = {**ATTACKS, **OTHER_ATTACKS}


@dataclass(frozen=True)
class Case:
    """What is judged: models by name, images, and where the records go.

    `sources` are the models on which transferred examples are made; `fingerprints` of the models' weights go into the
    records, so that those of other weights are made anew.
    """

    folder: Path
    models: dict[str, nn.Module]
    split: Split
    budgets: dict[str, dict[str, Any]]
    seed: int
    device: torch.device
    sources: tuple[str, ...] = (SOURCE,)
    fingerprints: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One attack on one model under one protocol: one record file."""

    model: str
    protocol: str
    attack: str


def budgets_for(channels: int, eps: float | None = None) -> dict[str, dict[str, Any]]:
    """Table 1's budgets, and ours for other attacks: MNIST's for grey images, CIFAR's for colour.

    `eps`: one ε for all of them, in pixels of [0, 1]; step sizes grow or shrink with it.
    """
    family = "mnist" if channels == 1 else "cifar"
    budgets = TABLE_1[family] | OTHER_BUDGETS[family]
    return budgets if eps is None else {name: _rescaled(budget, eps) for name, budget in budgets.items()}


def _rescaled(budget: dict[str, Any], eps: float) -> dict[str, Any]:
    changed = {"eps": eps, "step_size": budget.get("step_size", 0) * eps / budget.get("eps", 1)}
    return budget | {name: value for name, value in changed.items() if name in budget}


def check_names(protocols: list[str], attacks: list[str]) -> None:
    """Raises `UserError` for an unknown protocol or attack."""
    for kind, names, known in (("protocol", protocols, list(PROTOCOLS)), ("attack", attacks, list(KNOWN))):
        for name in names:
            if name not in known:
                raise UserError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}")


def cells(case: Case, wanted: list[str], attacks: list[str]) -> list[Cell]:
    """What there is to do, in order: whitebox and transfer come first, since adaptive builds on them."""
    check_names(wanted, attacks)
    needed = {*wanted, *(("whitebox", "transfer") if "adaptive" in wanted else ())}
    order = [name for name in ("whitebox", "transfer", "residual", "adaptive") if name in needed]
    return [
        Cell(model, protocol, attack)
        for attack in attacks
        for protocol in order
        for model, defense in case.models.items()
        if _applies(case, model, protocol, defense)
    ]


def _applies(case: Case, model: str, protocol: str, defense: nn.Module) -> bool:
    if protocol == "transfer":
        return bool(_sources_for(case, model))
    return model != CONTROL and (protocol != "residual" or has_residual(defense))


def _sources_for(case: Case, model: str) -> list[str]:
    return [name for name in case.sources if name != model]


def evaluate(case: Case, wanted: list[str], attacks: list[str], examples: int) -> None:
    """Writes the records that are missing, up to the first `examples` images of the split.

    Several processes take a batch each, side by side; the records are those of a single one to the bit.
    """
    examples = min(examples, len(case.split))
    todo = cells(case, wanted, attacks)
    for cell in todo:
        _discard_other_settings(case, cell)
    processes.wait()
    total = sum(max(examples - _done(case, cell), 0) * _cost(cell) for cell in todo)
    if not total:
        return
    keep_freed_memory()
    # batches outside, cells inside: a transferred batch is crafted once for all models
    with progress("attacks", total) as advance:
        for attack in attacks:
            mine = [cell for cell in todo if cell.attack == attack]
            for done in _rounds(case, mine, examples):
                _round(case, mine, done, examples, advance)


PASSES = {"fgsm": 3, "rfgsm": 3, "pgd": 300, "bim": 300, "mifgsm": 300, "eotpgd": 300, "vmifgsm": 1800, "aa": 13_000}
"""Forward passes an image, a gradient being two more, where no image falls: what the time left is reckoned from."""
OTHER_PASSES = 1000
EXTRA_PASSES = {"fgsm": 6, "pgd": 1900}
"""Of what `adaptive` adds."""


def _cost(cell: Cell) -> int:
    """Roughly, relative to the others."""
    if cell.protocol == "transfer":
        return 1
    if cell.protocol == "adaptive":
        return EXTRA_PASSES.get(cell.attack, 1)
    return PASSES.get(cell.attack, OTHER_PASSES)


def _rounds(case: Case, mine: list[Cell], examples: int) -> Iterator[dict[Cell, int]]:
    """What each cell has done already, until the one that is furthest behind is done."""
    while min((done := {cell: _done(case, cell) for cell in mine}).values()) < examples:
        yield done


def _batches(done: dict[Cell, int], examples: int) -> list[range]:
    """The next batch of each process. None crosses a point at which another cell has stopped."""
    found: list[range] = []
    start = min(done.values())
    while start < examples and len(found) < processes.count():
        stop = min([start + BATCH, examples, *(other for other in done.values() if other > start)])
        found.append(range(start, stop))
        start = stop
    return found


@torch.no_grad()
def _round(
    case: Case, mine: list[Cell], done: dict[Cell, int], examples: int, advance: Callable[[int, str], None]
) -> None:
    """A batch in each process: cell by cell, since a cell may build on the records of those before it."""
    batches = _batches(done, examples)
    here = batches[processes.index()] if processes.index() < len(batches) else range(0)
    images = as_images(case.split.images[here.start : here.stop].to(case.device))
    labels = case.split.labels[here.start : here.stop].to(case.device)
    crafted: dict[str, protocols.Crafted] = {}
    for cell in mine:
        made = []
        if len(here) and done[cell] <= here.start:
            outcome = _outcome(case, cell, images, labels, here.start, crafted)
            made = [_record(case, cell, images, labels, outcome, here.start)]
        for record in processes.gathered(made):
            records.append(_path(case, cell), record)
            text = f"{cell.attack} {cell.protocol} {cell.model}: {record.robust.mean():.1%} of {len(record)} right"
            advance(len(record) * _cost(cell), text)
        processes.wait()


def _outcome(
    case: Case,
    cell: Cell,
    images: Images,
    labels: Labels,
    start: int,
    crafted: dict[str, protocols.Crafted],
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
        if cell.protocol == "transfer":
            made = [_crafted(case, source, cell.attack, images, labels, start, crafted)
                    for source in _sources_for(case, cell.model)]  # fmt: skip
            return protocols.best_of([protocols.judged(defense, images, labels, each) for each in made], labels)
        if cell.model in case.sources:
            mine = _crafted(case, cell.model, cell.attack, images, labels, start, crafted)
            return protocols.judged(without_randomness(defense), images, labels, mine)
        return protocols.whitebox(defense, images, labels, cell.attack, settings, stream)


def _crafted(
    case: Case,
    source: str,
    attack: str,
    images: Images,
    labels: Labels,
    start: int,
    crafted: dict[str, protocols.Crafted],
) -> protocols.Crafted:
    """Adversarial images on a source, once a batch: its own whitebox examples are those that it passes on."""
    if source not in crafted:
        stream = generator(case.seed, "evaluate", source, "whitebox", attack, start, device=case.device)
        model = without_randomness(case.models[source])
        crafted[source] = protocols.craft(model, images, labels, attack, case.budgets[attack], stream)
    return crafted[source]


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
    if case.fingerprints:
        involved = [cell.model, *(_sources_for(case, cell.model) if cell.protocol in ("transfer", "adaptive") else ())]
        settings["weights"] = {name: case.fingerprints[name] for name in involved}
    if is_stochastic(case.models[cell.model]):
        settings["votes"] = votes_of(case.models[cell.model])
        settings["rule"] = "an example counts as fooled when the majority of the votes is wrong"
    if may_reject(case.models[cell.model]):
        settings["rule"] = "an example counts as fooled when it is wrong and accepted; a rejected clean image is wrong"
    return settings


def _path(case: Case, cell: Cell) -> Path:
    return records.path_of(case.folder, cell.model, cell.protocol, cell.attack)


def _done(case: Case, cell: Cell) -> int:
    record = records.read(_path(case, cell))
    return 0 if record is None else len(record)


def _discard_other_settings(case: Case, cell: Cell) -> None:
    record = records.read(_path(case, cell))
    if processes.is_main() and record is not None and record.settings != _settings(case, cell):
        _path(case, cell).unlink()
