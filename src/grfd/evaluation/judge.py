"""The judge: it attacks models under protocols, batch by batch, and writes a record of each example. It can resume."""

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from grfd import processes
from grfd.attacks import ALL_ATTACKS
from grfd.data.record import as_images
from grfd.errors import UserError
from grfd.evaluation import identity, protocols, records
from grfd.evaluation.attacker import Attempt, predictions, residual_of, without_randomness
from grfd.evaluation.case import Case, Request, Task, check_budgets, looked_at, settings_of, sources_for, tasks_of
from grfd.evaluation.protocols import Crafted, Outcome
from grfd.evaluation.records import Record
from grfd.memory import keep_freed_memory
from grfd.progress import Advance, progress, side
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

IMAGES_AT_ONCE = 500
"""Batch size of the judge."""


def attack_all(case: Case, request: Request) -> None:
    """Writes the missing records of the first `request.examples` images of the split, with the budgets of the case.

    Each of several processes takes a batch; the records are bit-identical to those of a single process.
    """
    examples = min(request.examples, len(case.split))
    todo = tasks_of(case, request)
    check_budgets(case.budgets, request.attacks)
    if not todo:
        raise UserError(f"no model here can be judged under {', '.join(request.protocols)}: nothing to do")
    case = case if case.identities else looked_at(case)
    _set_stale_aside(case, todo)
    processes.wait()
    total = sum(max(examples - _done(case, task), 0) * _cost(task) for task in todo)
    if not total:
        return
    keep_freed_memory()
    # the outer loop is over batches, so that a transferred batch is made once for all models
    with progress("attacks", total) as advance:
        for attack in request.attacks:
            mine = [task for task in todo if task.attack == attack]
            while min((done := {task: _done(case, task) for task in mine}).values()) < examples:
                _round(case, done, examples, advance)


EXTRA_PASSES = {"fgsm": 6, "pgd": 1900}
"""Forward passes per image that `adaptive` adds to an attack, counted as in `AttackEntry.passes`."""


def _cost(task: Task) -> int:
    """Rough cost per image, relative to other tasks."""
    if task.protocol == "adaptive":
        return EXTRA_PASSES.get(task.attack, 1)
    passes = ALL_ATTACKS[task.attack].passes
    return passes // 2 if task.protocol == "transfer" else passes  # transferred examples serve all models


def _ranges(done: dict[Task, int], examples: int) -> list[range]:
    """The images of the next batch of each process. A batch ends where the record of another task ends."""
    ranges: list[range] = []
    start = min(done.values())
    while start < examples and len(ranges) < processes.count():
        stop = min([start + IMAGES_AT_ONCE, examples, *(other for other in done.values() if other > start)])
        ranges.append(range(start, stop))
        start = stop
    return ranges


@dataclass(frozen=True)
class _Batch:
    """Images of the split from `start` on, and adversarial images made of them for other models, by source."""

    start: int
    images: Images
    labels: Labels
    crafted: dict[str, Crafted] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def _round(case: Case, done: dict[Task, int], examples: int, advance: Advance) -> None:
    """One batch in each process, task by task, because a task may need the records of earlier ones."""
    ranges = _ranges(done, examples)
    here = ranges[processes.index()] if processes.index() < len(ranges) else range(0)
    part = slice(here.start, here.stop)
    batch = _Batch(
        here.start, as_images(case.split.images[part].to(case.device)), case.split.labels[part].to(case.device)
    )
    for task, count in done.items():
        mine = len(batch) and count <= batch.start
        for record in processes.gathered([_record(case, task, batch)] if mine else []):
            records.append_record(_path(case, task), record)
            text = f"{task.attack} {task.protocol} {task.model}: {record.robust.mean():.1%} of {len(record)} right"
            advance(len(record) * _cost(task), text)
        processes.wait()


def _record(case: Case, task: Task, batch: _Batch) -> Record:
    """Attacks a batch. Returns its record."""
    victim, outcome = case.models[task.model], _outcome(case, task, batch)
    with seeded(case.seed, "clean", task.model, batch.start):
        clean = _clean(victim, task.protocol, batch.images)
    columns = {
        "index": torch.arange(batch.start, batch.start + len(batch)),
        "label": batch.labels,
        "clean_prediction": clean,
        "adversarial_prediction": outcome.prediction,
        "norm": outcome.norm.float(),
        "queries": outcome.queries.float(),
        "image": torch.from_numpy(identity.marks_of(batch.images)),
    }
    return Record({name: values.cpu().numpy() for name, values in columns.items()}, settings_of(case, task))


def _clean(victim: nn.Module, protocol: str, images: Images) -> torch.Tensor:
    if protocol == "residual":
        return predictions(victim.target, residual_of(victim, images))  # type: ignore[arg-type]
    return predictions(victim, images)


def _outcome(case: Case, task: Task, batch: _Batch) -> Outcome:
    defense, attempt = case.models[task.model], _attempt(case, task, batch.start)
    with seeded(case.seed, "model noise", task.model, task.protocol, task.attack, batch.start):
        if task.protocol == "transfer":
            crafted = [_crafted(case, source, task.attack, batch) for source in sources_for(case, task.model)]
            return protocols.transfer(defense, batch.images, batch.labels, crafted)
        if task.protocol == "adaptive":
            earlier = [_recorded(case, replace(task, protocol=name), batch) for name in ("whitebox", "transfer")]
            known = [outcome for outcome in earlier if outcome is not None]
            return protocols.adaptive(defense, batch.images, batch.labels, attempt, known)
        attacked = protocols.residual if task.protocol == "residual" else protocols.whitebox
        return attacked(defense, batch.images, batch.labels, attempt)


def _attempt(case: Case, task: Task, start: int) -> Attempt:
    names = (task.model, task.protocol, task.attack, start)
    stream = generator(case.seed, "evaluate", *names, device=case.device)
    return Attempt(task.attack, case.budgets[task.attack], stream, case.scales[task.model])


def _crafted(case: Case, source: str, attack: str, batch: _Batch) -> Crafted:
    """Adversarial images made on a source, once per batch for all the other models."""
    if source not in batch.crafted:
        attempt = protocols.for_transfer(_attempt(case, Task(source, "transfer", attack), batch.start))
        model = without_randomness(case.models[source])
        batch.crafted[source] = protocols.craft(model, batch.images, batch.labels, attempt)
    return batch.crafted[source]


def _recorded(case: Case, task: Task, batch: _Batch) -> Outcome | None:
    """The outcome of another protocol for these images, if it is recorded."""
    record = records.read_record(_path(case, task))
    if record is None:
        return None
    part = record.rows(batch.start, batch.start + len(batch)).columns
    columns = (part["adversarial_prediction"], part["norm"], part["queries"])
    return Outcome(*(torch.from_numpy(column).to(case.device) for column in columns))


def _path(case: Case, task: Task) -> Path:
    return records.path_of(case.folder, task.model, task.protocol, task.attack)


def _done(case: Case, task: Task) -> int:
    record = records.read_record(_path(case, task))
    return 0 if record is None else len(record)


STALE = "stale-records"
"""Folder of a run for records of other settings, models or images than those of the last evaluation, by evaluation."""


def _set_stale_aside(case: Case, todo: list[Task]) -> None:
    """Moves records of other settings, models or images to another folder. Those that are needed are made again.

    All records of the case's models are compared, not only the requested ones, because a table shows all of them.
    """
    if not processes.is_main():
        return
    present = {
        Task(*key): record for name in case.models for key, record in records.read_records(case.folder, name).items()
    }
    longest = max((len(record) for record in present.values()), default=0)
    marks = identity.marks_of(case.split.images[:longest])
    stale = [task for task, record in present.items() if not _is_right(case, task, record, todo)
             or not identity.of_these_images(record, marks, case.split.labels)]  # fmt: skip
    if not stale:
        return
    aside = _unused_folder(case.folder / STALE)
    for task in stale:
        moved = aside / _path(case, task).relative_to(case.folder / "records")
        moved.parent.mkdir(parents=True, exist_ok=True)
        _path(case, task).replace(moved)
    side.print(f"{len(stale)} records belong to other models, images or settings: moved to {aside}")


def _unused_folder(parent: Path) -> Path:
    """The first of the folders 1, 2, … that does not exist yet, so that no earlier record is overwritten."""
    return next(folder for number in itertools.count(1) if not (folder := parent / str(number)).exists())


def _is_right(case: Case, task: Task, record: Record, todo: list[Task]) -> bool:
    """Whether a record was made by these models and, if their budget is known, with these settings."""
    if task.attack not in case.budgets:  # its threat model is not that of the one ε for all attacks
        return identity.of_these_models(record.settings, case.identities)
    settings = settings_of(case, task)
    if task in todo:
        return identity.same_settings(record.settings, settings)
    same = identity.same_budget(record.settings, settings)
    return same and identity.of_these_models(record.settings, case.identities)
