"""`grfd harden`: judges a network as it is, fits the defenses that the time allows, judges them, and recommends one."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd import runs
from grfd.api import evaluating, fitting
from grfd.api.job import AS_NAMED, Own
from grfd.api.own_images import with_preprocessing
from grfd.config import Config
from grfd.data.record import as_images
from grfd.defenses import DEFENSES, recipes, standard
from grfd.defenses.n_fgsm import NoisyStep
from grfd.defenses.n_fgsm import Recipe as NoisyRecipe
from grfd.errors import UserError
from grfd.evaluation.request import Request
from grfd.evaluation.results import Results
from grfd.models.opening import open_model
from grfd.progress import side
from grfd.runs import write_tensors
from grfd.seeds import left_as_found, seeded
from grfd.training.classification import training_split
from grfd.training.job import Job
from grfd.types import Images

BEFORE = "standard"
"""The name of the network before it is hardened."""
HARDENED_FILE = "hardened.json"

_SHARE = 0.35
"""The share of the time that each training may take. What is left is for judging."""
_MOST_EPOCHS = 30
_FINE_TUNING_RATE = 3e-4
"""Learning rate with given weights. Fresh weights take that of the configuration."""
_TIMED_IMAGES = 16
_ATTACKS = ("fgsm", "a3")


@dataclass(frozen=True)
class HardenRequest:
    """What is asked for: ε in L∞, in pixels of [0, 1], the time in minutes, and the number of test images to attack."""

    eps: float = 4 / 255
    minutes: float = 60.0
    examples: int = 100


@dataclass(frozen=True)
class Candidate:
    """A defense that may be fitted: what it is given beside ε, and its gradients for each image in an epoch.

    A defense of 0 gradients is not trained."""

    defense: str
    gradients: int
    recipe: Callable[[float], dict[str, Any]]


_CANDIDATES = (
    Candidate("bit-depth", 0, lambda eps: {}),
    Candidate("n-fgsm", 2, lambda eps: {"eps": eps, "start": "standard"}),
    Candidate("pgd-at", 4, lambda eps: {"eps": eps, "step_size": eps / 2, "steps": 3}),
)


@dataclass(frozen=True)
class Hardened:
    """One network: accuracies in [0, 1] with their 95 % intervals, its answer's time, and what was flagged."""

    model: str
    clean: float
    clean_interval: tuple[float, float]
    worst: float
    worst_interval: tuple[float, float]
    milliseconds: float
    epochs: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """All networks that were judged, the recommended one (None: none is better), why, and what was left out."""

    networks: tuple[Hardened, ...]
    recommended: str | None
    reason: str
    left_out: dict[str, str] = field(default_factory=dict)


@left_as_found()
def harden(out: Path, config: Config, asked: HardenRequest, own: Own = AS_NAMED) -> Recommendation:
    """Writes the run folder `out` with the weights, the records and hardened.json. A stopped call continues.

    `config`: model, weights and data. With weights that fit the classes of the data, the network before hardening is
    what was given. Otherwise it is trained first. Raises `UserError` for what cannot be trained or judged.
    """
    config = _as_asked_for(config)
    with runs.locked(out):
        data, architecture = fitting.examined(config, own)
        job = Job(runs.create(out, config, fitting.images_for(config, data)), data, architecture)
        epochs, left_out = {BEFORE: _before(job)}, {}
        for candidate in _CANDIDATES:
            count = _affordable_epochs(job, candidate, asked)
            if candidate.gradients and not count:
                left_out[candidate.defense] = f"an epoch takes more than {_SHARE:.0%} of the {asked.minutes:g} minutes"
                continue
            _fit(job, candidate, asked, count)
            epochs[candidate.defense] = count
    models = {name: DEFENSES[name].load(job) for name in epochs}
    request = Request(("whitebox", "adaptive"), _ATTACKS, asked.examples, "linf", (asked.eps,))
    results = evaluating.evaluate_models(models, out / "judged", request, data, config=config)
    networks = tuple(_judged(results, name, models[name], job, epochs[name]) for name in models)
    outcome = Recommendation(networks, *_recommended(networks), left_out)
    runs.write_json(out / HARDENED_FILE, asdict(outcome) | {"asked": asdict(asked)} | runs.provenance())
    return outcome


def _as_asked_for(config: Config) -> Config:
    """The configuration with the image sizes of a named model, and the learning rate for given weights."""
    if config.weights is None:
        return config
    if config.model.startswith(("timm/", "hf/")):
        config = with_preprocessing(config, open_model(config.model, config.weights))
    return replace(config, classifier_learning_rate=_FINE_TUNING_RATE)


def _before(job: Job) -> int:
    """Writes standard.safetensors: the given network, or one that is trained. Returns its epochs."""
    run = job.run
    if run.config.weights is not None and _head_is_given(job):
        if not run.has("standard.safetensors"):
            write_tensors(run.file("standard.safetensors"), job.architecture().state_dict())
        return 0
    standard.fit(job)
    return run.config.classifier_epochs


def _head_is_given(job: Job) -> bool:
    """Whether two networks of the same weights are equal: a fresh last layer differs from one to the next."""
    states = []
    for number in (0, 1):
        with seeded(job.run.config.seed, "harden", number):
            states.append(job.architecture().state_dict())
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _affordable_epochs(job: Job, candidate: Candidate, asked: HardenRequest) -> int:
    """How many epochs of a candidate fit into its share of the time. It is measured once, and stored."""
    if not candidate.gradients:
        return 0
    file = job.run.file("harden-epochs.json")
    stored = json.loads(file.read_text()) if file.exists() else {"minutes": asked.minutes}
    if stored["minutes"] != asked.minutes:
        raise UserError(f"{job.run.path} was begun with --minutes {stored['minutes']:g}: choose another folder")
    if candidate.defense not in stored:
        seconds = _seconds_an_image(job) * candidate.gradients / 2 * len(training_split(job))
        stored[candidate.defense] = min(int(_SHARE * 60 * asked.minutes / max(seconds, 1e-9)), _MOST_EPOCHS)
        runs.write_json(file, stored)
    return int(stored[candidate.defense])


def _seconds_an_image(job: Job) -> float:
    """The time of a training step of N-FGSM, divided by its images; the second of two steps."""
    split = training_split(job)
    count = min(job.run.config.batch, len(split))
    images, labels = as_images(split.images[:count]), split.labels[:count]
    with seeded(job.run.config.seed, "harden", "time"):
        objective = NoisyStep(job.architecture(), NoisyRecipe(eps=1 / 255)).train()
        for _ in range(2):
            started = time.perf_counter()
            objective(images, labels, 0.0)["loss"].mean().backward()
    return (time.perf_counter() - started) / count


def _fit(job: Job, candidate: Candidate, asked: HardenRequest, epochs: int) -> None:
    module = DEFENSES[candidate.defense]
    settings = candidate.recipe(asked.eps) | ({"epochs": epochs} if candidate.gradients else {})
    if candidate.gradients and job.run.config.weights is not None:
        settings["learning_rate"] = _FINE_TUNING_RATE
    recipe = recipes.checked_recipe(module, module.Recipe(**settings), job.data, job.run.config)
    recipes.remember(job.run, candidate.defense, recipe)
    if candidate.gradients:
        side.print(f"{module.TITLE}: {epochs} epochs")
    module.fit(job, recipe)


def _judged(results: Results, name: str, model: nn.Module, job: Job, epochs: int) -> Hardened:
    rows = {
        row.attack: row
        for row in results.rows
        if (row.model, row.protocol) == (name, "adaptive") and row.norm is not None
    }
    flags = tuple(check.name for check in results.checks if check.model == name and check.flagged)
    clean, worst = rows["none"], rows["worst"]
    images = as_images(job.data.test.images[:_TIMED_IMAGES])
    return Hardened(
        name,
        clean.accuracy,
        clean.interval,
        worst.accuracy,
        worst.interval,
        _milliseconds(model, images),
        epochs,
        flags,
    )


@torch.no_grad()
def _milliseconds(model: nn.Module, images: Images) -> float:
    """The median time of an answer, per image."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        model(images)
        times.append(time.perf_counter() - started)
    return round(1000 * sorted(times[1:])[1] / len(images), 3)


def _recommended(networks: tuple[Hardened, ...]) -> tuple[str | None, str]:
    """The name of the best network that is surely better than before, and the reason in one sentence."""
    before, *others = networks
    better = [each for each in others if each.worst_interval[0] > before.worst and not each.flags]
    if not better:
        masked = [each.model for each in others if each.flags and each.worst > before.worst]
        also = f" The masking checks flag {', '.join(masked)}, whose numbers may be too high." if masked else ""
        return None, (
            "No defense is surely better than the network as it is: the lower ends of their intervals do not exceed "
            f"its worst case of {before.worst:.1%}.{also}"
        )
    best = max(better, key=lambda each: (each.worst, each.clean))
    return best.model, (
        f"{DEFENSES[best.model].TITLE} keeps {best.worst:.1%} of the images under the attacker who knows it, where the "
        f"network as it is keeps {before.worst:.1%}. It costs {100 * (before.clean - best.clean):.1f} points of clean "
        f"accuracy, and an answer takes {best.milliseconds:.2f} ms in place of {before.milliseconds:.2f} ms."
    )
