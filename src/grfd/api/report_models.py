"""What a report needs the models of a run for: probabilities, what a defense shows its classifier, and transfer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from grfd.api.evaluating import models_of
from grfd.api.job import Own, load_data, open_job
from grfd.api.report_records import ReportedCase, ReportedRun
from grfd.data.record import Data, as_images
from grfd.defenses import is_stochastic
from grfd.errors import UserError
from grfd.evaluation import identity
from grfd.evaluation.attacker import answer, predictions_under_attack, seen_of, votes_of, without_randomness
from grfd.evaluation.results import Row
from grfd.models.state import identity_of
from grfd.report.html.content import HtmlCell, HtmlTable
from grfd.report.html.entries import title_of
from grfd.report.html.tables import shown_cell
from grfd.seeds import seeded
from grfd.types import Images

_IMAGES_AT_A_TIME = 100
"""Images of a forward pass."""
RANDOM_EXAMPLES = 50
"""Examples for which a random model is asked: each of its answers takes several forward passes."""
TRANSFERRED = 200
"""Images of the matrix of transfer, counted from the first."""
TOP = 3
"""Classes whose probabilities are shown."""


@dataclass(frozen=True, eq=False)
class ReportedModels:
    """The images of the runs and the models of each run by name, as far as they can be loaded. `notes`: what is not."""

    data: Data | None
    models: list[dict[str, nn.Module]]
    seeds: list[int]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ModelAnswers:
    """What a model answers to some images: the most probable classes in turn with their shares in 1/1000, margins."""

    top: list[list[int]]
    margins: list[float]
    seen: np.ndarray | None
    """What the defense shows its classifier; None if that is the image itself."""


def load_reported(
    reported: Sequence[ReportedRun], own: Own, given: Mapping[str, nn.Module] | None = None
) -> ReportedModels:
    """Loads the images and the models. What cannot be loaded, or is not what was judged, becomes a note.

    `given`: models by name that no run folder contains, of an evaluation of your own models.
    """
    loaded = ReportedModels(_images_of(reported[0], own), [], [])
    if loaded.data is None:
        loaded.notes.append("The test images cannot be loaded, or are not those of the records: no pictures are shown.")
    for each in reported:
        models, note = _models_of(each, own, given or {}) if loaded.data is not None else ({}, "")
        loaded.models.append(models)
        loaded.seeds.append(each.run.config.seed)
        loaded.notes.extend([note] if note else [])
    return loaded


def _images_of(first: ReportedRun, own: Own) -> Data | None:
    try:
        data = load_data(first.run, own.data)
    except UserError:
        return None
    record = max((case.record for case in first.cases), key=len)
    marks = identity.marks_of(data.test.images[: len(record)])
    if "image" not in record.columns:
        return data if np.array_equal(record.columns["label"], data.test.labels[: len(record)].numpy()) else None
    return data if identity.of_these_images(record, marks, data.test.labels) else None


def _models_of(reported: ReportedRun, own: Own, given: Mapping[str, nn.Module]) -> tuple[dict[str, nn.Module], str]:
    names = list(dict.fromkeys(case.task.model for case in reported.cases))
    try:
        models = dict(given) or models_of(open_job(reported.run, own), torch.device("cpu"))
    except UserError as error:
        return {}, f"The models of {reported.title} are not loaded, so probabilities are missing ({error})."
    right = {name: models[name] for name in names if name in models and _is_judged(models[name], name, reported)}
    missing = [title_of(name) for name in names if name not in right]
    if missing:
        return right, f"Of {reported.title} these models are missing or have changed: {', '.join(missing)}."
    return right, ""


def _is_judged(model: nn.Module, name: str, reported: ReportedRun) -> bool:
    """Whether a model has the weights with which it was judged, as far as the records know."""
    known = [case.record.settings.get("models", {}).get(name, {}) for case in reported.cases if case.task.model == name]
    weights = {facts["weights"] for facts in known if "weights" in facts}
    return not weights or weights == {identity_of(model)}


@torch.no_grad()
def answers_of(model: nn.Module, images: Images, labels: Tensor, seed: int, protocol: str = "") -> ModelAnswers:
    """The answers of a model to images. Under whitebox a random model has no randomness, as when judged."""
    model = without_randomness(model) if protocol == "whitebox" else model
    with seeded(seed, "report", protocol):
        shares = torch.cat([_probabilities(model, part) for part in images.split(_IMAGES_AT_A_TIME)])
        shows = hasattr(model, "seen")
        seen = torch.cat([seen_of(model, part) for part in images.split(_IMAGES_AT_A_TIME)]).numpy() if shows else None
    best = shares.topk(min(TOP, shares.shape[1]), dim=1)
    top = [
        [number for pair in zip(classes, parts, strict=True) for number in (int(pair[0]), round(1000 * pair[1]))]
        for classes, parts in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    own = shares.gather(1, labels[:, None]).squeeze(1)
    others = shares.scatter(1, labels[:, None], -1.0).amax(1)
    return ModelAnswers(top, [round(value, 4) for value in (own - others).tolist()], seen)


def _probabilities(model: nn.Module, images: Images) -> Tensor:
    draws = votes_of(model) if is_stochastic(model) else 1
    return torch.stack([answer(model, images).softmax(1).nan_to_num() for _ in range(draws)]).mean(0)


def adversarial_of(case: ReportedCase, images: Images, places: Sequence[int]) -> Images:
    """The adversarial images at `places` of the split. `images`: the clean ones at these places."""
    assert case.kept is not None
    return (images + torch.from_numpy(case.kept[list(places)]).to(images)).clamp(0, 1)


@torch.no_grad()
def transfer_matrix(reported: Sequence[ReportedRun], loaded: ReportedModels) -> HtmlTable | None:
    """The accuracy of every model on the examples that were made on each other one. None if no such images are kept."""
    sources = _sources(reported)
    victims = [(number, name) for number, models in enumerate(loaded.models) for name in models]
    if loaded.data is None or not sources or len(victims) < 2:
        return None
    count = min(TRANSFERRED, *(len(case.kept) for case in sources if case.kept is not None))
    images, labels = as_images(loaded.data.test.images[:count]), loaded.data.test.labels[:count]
    right = {each: _right(loaded, each, images, labels) for each in victims}
    lines = []
    for case in sources:
        changed = adversarial_of(case, images, range(count))
        cells = [shown_cell(_row(each[1], right[each] & _right(loaded, each, changed, labels))) for each in victims]
        lines.append((HtmlCell(_named(reported, (case.run, case.task.model))), *cells))
    attack = sources[0].task.attack
    heads = ("made on", *(_named(reported, each) for each in victims))
    note = (
        f"Accuracy in per cent on the first {count:,} test images after {attack}, with 95 % intervals. Each line is a "
        "model on which the examples were made with full knowledge of it, each column a model that classifies them."
    )
    return HtmlTable("Transfer between models", heads, tuple(lines), 1, note)


def _sources(reported: Sequence[ReportedRun]) -> list[ReportedCase]:
    """White-box cases with kept images, one for each model, all of the same attack and threat model."""
    kept = [case for each in reported for case in each.cases
            if case.kept is not None and case.task.protocol == "whitebox" and case.task.target is None]  # fmt: skip
    kinds = [(case.task.attack, case.task.root) for case in kept]
    if not kinds:
        return []
    most = max(dict.fromkeys(kinds), key=lambda kind: (kinds.count(kind), kind[0] == "pgd"))
    return [case for case, kind in zip(kept, kinds, strict=True) if kind == most]


def _right(loaded: ReportedModels, victim: tuple[int, str], images: Images, labels: Tensor) -> np.ndarray:
    model = loaded.models[victim[0]][victim[1]]
    with seeded(loaded.seeds[victim[0]], "report", "transfer"):
        answers = [
            predictions_under_attack(model, *pair)
            for pair in zip(images.split(_IMAGES_AT_A_TIME), labels.split(_IMAGES_AT_A_TIME), strict=True)
        ]
    return (torch.cat(answers) == labels).numpy()


def _row(model: str, right: np.ndarray) -> Row:
    return Row(model, "transfer", "worst", len(right), float(right.mean()), right=right)


def _named(reported: Sequence[ReportedRun], which: tuple[int, str]) -> str:
    return title_of(which[1]) + (f" ({reported[which[0]].title})" if len(reported) > 1 else "")
