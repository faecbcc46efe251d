"""How one batch of images is attacked for one task, and its part of the record."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from grfd.attacks.budgets import Ball
from grfd.attacks.registry import entry_of
from grfd.evaluation import identity, kept_images, protocols, records
from grfd.evaluation.attacker import (
    Attempt,
    answer,
    predictions,
    predictions_under_attack,
    residual_of,
    surrogate_of,
    without_randomness,
)
from grfd.evaluation.case import (
    Case,
    Task,
    balls_of,
    keywords_for,
    settings_of,
    sources_for,
)
from grfd.evaluation.crafting import Crafted, LabelledImages, craft, for_transfer
from grfd.evaluation.protocols import Outcome
from grfd.evaluation.records import Record
from grfd.evaluation.request import LEAST_LIKELY
from grfd.seeds import generator, seeded


@dataclass(frozen=True)
class ImageBatch:
    """Images of the split from `start` on, and adversarial images made of them for other models, by source."""

    start: int
    examples: LabelledImages
    crafted: dict[str, Crafted] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples.labels)


def judged(case: Case, task: Task, batch: ImageBatch) -> tuple[Record, np.ndarray | None]:
    """Attacks a batch. Returns its record and, if they are kept, the perturbations."""
    batch = replace(batch, examples=_with_targets(case, task, batch))
    examples, victim, outcome = batch.examples, case.models[task.model], _outcome(case, task, batch)
    clean = _clean(case, task, batch)
    columns = {
        "index": torch.arange(batch.start, batch.start + len(batch)),
        "label": examples.labels,
        "clean_prediction": clean,
        "adversarial_prediction": outcome.prediction,
        "norm": outcome.norm.float(),
        "queries": outcome.queries.float(),
        "image": torch.from_numpy(identity.marks_of(examples.images)),
    }
    if examples.targets is not None:
        columns["target"] = examples.targets
    differences = None
    if case.keep_images and outcome.images is not None and task.protocol != "residual":
        differences = (outcome.images - examples.images).half().cpu().numpy()
        with seeded(case.seed, "rounded", *task.names, batch.start):
            rounded = kept_images.rounded(outcome.images)
            columns["rounded_prediction"] = predictions_under_attack(_victim(task, victim), rounded, examples.labels)
    arrays = {name: values.cpu().numpy() for name, values in columns.items()}
    return Record(arrays, settings_of(case, task)), differences


def _victim(task: Task, model: nn.Module) -> nn.Module:
    return without_randomness(model) if task.protocol == "whitebox" else model


def _clean(case: Case, task: Task, batch: ImageBatch) -> torch.Tensor:
    victim, images = case.models[task.model], batch.examples.images
    with seeded(case.seed, "clean", task.model, batch.start):
        if task.protocol == "residual":
            return predictions(victim.target, residual_of(victim, images))  # type: ignore[arg-type]
        return predictions(victim, images)


def _with_targets(case: Case, task: Task, batch: ImageBatch) -> LabelledImages:
    """The examples of a batch with the classes that they should be mistaken for."""
    examples = batch.examples
    if task.target is None:
        return examples
    if task.target != LEAST_LIKELY:
        return examples._replace(targets=torch.full_like(examples.labels, int(task.target)))
    with seeded(case.seed, "least likely", task.model, batch.start):
        logits = answer(surrogate_of(case.models[task.model]), examples.images)
    return examples._replace(targets=logits[:, : case.classes[task.model]].argmin(1))


def _outcome(case: Case, task: Task, batch: ImageBatch) -> Outcome:
    """The outcome of a task. What falls at a smaller ε falls at this one, so only what still stands is attacked."""
    unbounded = _unbounded(case, task, batch)
    if unbounded is not None and task.ball is not None:
        return protocols.cut_at(unbounded, _untouched(case, task, batch), task.ball.eps)
    everything = torch.arange(len(batch), device=case.device)
    smaller = _at_smaller_eps(case, task, batch)
    if smaller is None:
        return _attacked(case, task, batch, everything)
    rows = everything[~batch.examples.reached(smaller.prediction)]
    if len(rows) == 0:
        return smaller
    return protocols.merged(smaller, rows, _attacked(case, task, batch, rows), batch.examples)


def _untouched(case: Case, task: Task, batch: ImageBatch) -> Outcome:
    """The outcome of no attack."""
    clean = _clean(case, task, batch)
    zeros = torch.zeros(len(batch), device=case.device)
    return Outcome(clean, zeros, zeros, batch.examples.images)


def _attacked(case: Case, task: Task, batch: ImageBatch, rows: torch.Tensor) -> Outcome:
    """The outcome of an attack on the examples at `rows`."""
    defense, attempt, examples = case.models[task.model], _attempt(case, task, batch.start), batch.examples.at(rows)
    with seeded(case.seed, "model noise", *task.names, batch.start):
        if task.protocol == "transfer":
            made = [_crafted(case, source, task, batch) for source in sources_for(case, task.model)]
            return protocols.transfer(defense, examples, [each._replace(images=each.images[rows]) for each in made])
        if task.protocol == "adaptive":
            earlier = [_recorded(case, replace(task, protocol=name), batch) for name in ("whitebox", "transfer")]
            known = [protocols.at(outcome, rows) for outcome in earlier if outcome is not None]
            return protocols.adaptive(defense, examples, attempt, known)
        attacked = protocols.residual if task.protocol == "residual" else protocols.whitebox
        return attacked(defense, examples, attempt)


def _attempt(case: Case, task: Task, start: int) -> Attempt:
    stream = generator(case.seed, "evaluate", *task.names, start, device=case.device)
    return Attempt(task.attack, keywords_for(case, task), stream, case.scales[task.model], case.passes.get(task.model))


def _crafted(case: Case, source: str, task: Task, batch: ImageBatch) -> Crafted:
    """Adversarial images made on a source, once per batch for all the other models with the same targets."""
    kind = f"{source} {task.root} {task.attack}" + (f" {task.model}" if task.target == LEAST_LIKELY else "")
    if kind not in batch.crafted:
        made_on = replace(task, model=source, protocol="transfer")
        attempt = for_transfer(_attempt(case, made_on, batch.start))
        batch.crafted[kind] = craft(without_randomness(case.models[source]), batch.examples, attempt)
    return batch.crafted[kind]


def _recorded(case: Case, task: Task, batch: ImageBatch) -> Outcome | None:
    """The outcome of another task for these images, if it is recorded."""
    record = records.read_record(record_path(case, task))
    if record is None or len(record) < batch.start + len(batch):
        return None
    part = record.rows(batch.start, batch.start + len(batch)).columns
    columns = (part["adversarial_prediction"], part["norm"], part["queries"])
    kept = kept_images.kept_path(case.folder, record_path(case, task))
    images = kept_images.kept_images(kept, batch.examples.images, batch.start) if case.keep_images else None
    prediction, norm, queries = (torch.from_numpy(column).to(case.device) for column in columns)
    return Outcome(prediction, norm, queries, images)


def _at_smaller_eps(case: Case, task: Task, batch: ImageBatch) -> Outcome | None:
    """The outcome at the largest smaller ε that is recorded in the same norm."""
    if task.ball is None or math.isinf(task.ball.eps):
        return None
    tasks = [replace(task, ball=ball) for ball in balls_of(case.folder) if ball.norm == task.ball.norm]
    below = [each for each in tasks if each.ball is not None and each.ball.eps < task.ball.eps]
    known = [_recorded(case, each, batch) for each in sorted(below, key=lambda each: each.ball or Ball("linf", 0))]
    return next((outcome for outcome in reversed(known) if outcome is not None), None)


def _unbounded(case: Case, task: Task, batch: ImageBatch) -> Outcome | None:
    """The outcome of a minimal-norm attack without a bound, if it is recorded."""
    if task.ball is None or math.isinf(task.ball.eps) or task.target or not entry_of(task.attack).minimal:
        return None
    return _recorded(case, replace(task, ball=Ball(task.ball.norm, math.inf)), batch)


def record_path(case: Case, task: Task) -> Path:
    return records.path_of(case.folder, task.model, task.protocol, task.attack, task.root)


def recorded(case: Case, task: Task) -> int:
    """The number of images that are recorded; if images are kept, of those whose adversarial images are there, too."""
    record = records.read_record(record_path(case, task))
    if record is None:
        return 0
    if not case.keep_images or task.protocol == "residual":
        return len(record)
    kept = kept_images.read_differences(kept_images.kept_path(case.folder, record_path(case, task)))
    return min(len(record), 0 if kept is None else len(kept))
