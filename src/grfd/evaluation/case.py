"""What is judged: the models, images and budgets, the tasks, and the settings of each record."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd.attacks import ALL_ATTACKS
from grfd.attacks.budgets import NORMS, Ball, keywords_of, keywords_within
from grfd.attacks.pass_size import images_in_a_pass
from grfd.attacks.registry import entry_of
from grfd.data.record import Split, as_images
from grfd.defenses import averages_probabilities, has_residual, is_stochastic
from grfd.errors import UserError
from grfd.evaluation import identity, protocols, scale
from grfd.evaluation.attacker import answer, attacked_model, may_reject, votes_of
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.records import RECORDS, THREAT_MODELS, roots_of
from grfd.evaluation.request import EVERY_TARGET, LEAST_LIKELY, Request
from grfd.seeds import seeded

SOURCE = "standard"
"""The model of a run on which `transfer` makes its adversarial examples."""
CONTROL = "second-standard"
"""The model of a run that is judged under `transfer` only. Its robust accuracy is not due to any defense."""


@dataclass(frozen=True)
class Case:
    """What is judged: models by name, images and budgets, and the folder of the records.

    `sources`: the models on which transferred examples are made. `identities`: the facts by which each model is
    recognised; they are stored in the records, so that records of another model are replaced. `scales`: the factor by
    which each model's logits are multiplied before it is attacked. `classes`: the number of its logits. `passes`:
    how many images are differentiated at a time. `looked_at` computes these four.
    """

    folder: Path
    models: dict[str, nn.Module]
    split: Split
    budgets: dict[str, dict[str, Any]]
    seed: int
    device: torch.device
    sources: tuple[str, ...] = (SOURCE,)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    passes: dict[str, int | None] = field(default_factory=dict)
    keep_images: bool = False

    @property
    def grey(self) -> bool:
        """Whether images have one channel."""
        return self.split.images.shape[1] == 1


@dataclass(frozen=True)
class Task:
    """One attack on one model under one protocol and threat model: one record file.

    `ball` None: the attack's budget of the registry. `target`: a class, `LEAST_LIKELY`, or None for any wrong class.
    """

    model: str
    protocol: str
    attack: str
    ball: Ball | None = None
    target: str | None = None

    @property
    def root(self) -> str:
        """The folder of its records in the run."""
        if self.ball is None and self.target is None:
            return RECORDS
        ball = "budgets" if self.ball is None else f"{self.ball.norm}-{self.ball.eps!r}"
        return f"{THREAT_MODELS}/{ball}" + ("" if self.target is None else f"-target-{self.target}")

    @property
    def names(self) -> tuple[str, ...]:
        """What its random streams are named after."""
        names = (self.model, self.protocol, self.attack)
        return names if self.root == RECORDS else (*names, self.root)


def task_at(root: str, model: str, protocol: str, attack: str) -> Task:
    """The task whose record lies at `root` under these names: the inverse of `Task.root`."""
    ball, _, target = root.removeprefix(f"{THREAT_MODELS}/").partition("-target-")
    return Task(model, protocol, attack, _ball_of(ball), target or None)


def balls_of(folder: Path) -> list[Ball]:
    """All balls for which a run has records, by norm and ε."""
    names = [root.removeprefix(f"{THREAT_MODELS}/").partition("-target-")[0] for root in roots_of(folder)]
    return sorted({ball for name in names if (ball := _ball_of(name)) is not None})


def _ball_of(name: str) -> Ball | None:
    """The ball in the name of a folder, such as l2-0.5; None for the budgets of the registry."""
    norm, _, eps = name.partition("-")
    return Ball(norm, float(eps)) if norm in NORMS else None


def budgets_for(channels: int) -> dict[str, dict[str, Any]]:
    """The budgets of the registry: those for MNIST if images are grey, those for CIFAR if they have colours."""
    return {name: keywords_of(name, channels == 1) for name in ALL_ATTACKS}


def keywords_for(case: Case, task: Task) -> dict[str, Any]:
    """The keywords of a task's attack. A user's own attack is not in the budgets of the case."""
    if task.ball is not None:
        return keywords_within(task.attack, task.ball, case.grey)
    return case.budgets[task.attack] if task.attack in case.budgets else keywords_of(task.attack, case.grey)


NEEDED = {
    "transfer": "give a source, on which its examples are made",
    "residual": "it needs a defense that classifies a residual, as grfd does",
    "whitebox": "it needs a model beside the control",
    "adaptive": "it needs a model beside the control",
}
"""Protocol → the models that it needs."""


def check_applies(case: Case, wanted: Sequence[str]) -> None:
    """Raises `UserError` for a protocol that applies to none of the models.

    If all protocols are named, those that do not apply are left out instead.
    """
    for protocol in wanted if set(wanted) != set(PROTOCOLS) else ():
        if not any(_applies(case, model, protocol, defense) for model, defense in case.models.items()):
            raise UserError(f"protocol {protocol} applies to none of {', '.join(case.models)}: {NEEDED[protocol]}")


def tasks_of(case: Case, request: Request) -> list[Task]:
    """The work of a request, in order: `whitebox` and `transfer` come first, because `adaptive` builds on them."""
    needed = {*request.protocols, *(("whitebox", "transfer") if "adaptive" in request.protocols else ())}
    order = [name for name in ("whitebox", "transfer", "residual", "adaptive") if name in needed]
    return [
        Task(model, protocol, attack, ball, target)
        for attack in request.attacks
        for target in _targets(case, request)
        for ball in request.balls(attack, case.grey)
        for protocol in order
        for model, defense in case.models.items()
        if _applies(case, model, protocol, defense) and not (protocol == "transfer" and ball and math.isinf(ball.eps))
    ]


def _targets(case: Case, request: Request) -> list[str | None]:
    """The targets of a request, one for each task. Raises `UserError` for a class that a model does not have."""
    if request.target is None or request.target == LEAST_LIKELY:
        return [request.target]
    classes = min(case.classes.values())
    if request.target == EVERY_TARGET:
        return [str(target) for target in range(classes)]
    if int(request.target) >= classes:
        raise UserError(f"target {request.target} is not a class: expected a number from 0 to {classes - 1}")
    return [str(int(request.target))]


def _applies(case: Case, model: str, protocol: str, defense: nn.Module) -> bool:
    if protocol == "transfer":
        return bool(sources_for(case, model))
    return model != CONTROL and (protocol != "residual" or has_residual(defense))


def sources_for(case: Case, model: str) -> list[str]:
    """The models on which examples against this one are made under `transfer`."""
    return [name for name in case.sources if name != model]


@torch.no_grad()
def looked_at(case: Case) -> Case:
    """The case with the identity of each model, the scale of its logits and their number."""
    images = as_images(case.split.images[: scale.SCALE_EXAMPLES].to(case.device))
    identities, scales, classes, passes = {}, {}, {}, dict(case.passes)
    for name, model in case.models.items():
        with seeded(case.seed, "look", name):
            identities[name] = identity.known_by(model, images)
            scales[name] = scale.logit_scale(model, images)
            classes[name] = answer(model, images[:1]).shape[1] - may_reject(model)
            if name not in passes:
                passes[name] = images_in_a_pass(partial(answer, attacked_model(model, scales[name])), images[:1])
    return replace(case, identities=identities, scales=scales, classes=classes, passes=passes)


def scale_for(case: Case, model: nn.Module) -> float:
    """The scale of the logits at which one of the case's models is attacked."""
    return next((case.scales[name] for name, each in case.models.items() if each is model and name in case.scales), 1.0)


def settings_of(case: Case, task: Task) -> dict[str, Any]:
    """The settings that are stored in the record. A record with other settings is replaced."""
    settings: dict[str, Any] = {"attack": keywords_for(case, task), "seed": case.seed, "judge": identity.VERSION}
    if task.target is not None:
        settings["target"] = task.target
    involved = [task.model]
    if task.protocol in ("transfer", "adaptive"):
        settings["transfer"] = entry_of(task.attack).transfer
        involved += sources_for(case, task.model)
    if task.protocol == "adaptive":
        settings["extra"] = [[name, changes] for name, changes in protocols.EXTRA.get(task.attack, ())]
    settings["models"] = {name: case.identities[name] for name in involved}
    if is_stochastic(case.models[task.model]):
        settings["votes"] = votes_of(case.models[task.model])
        averages = averages_probabilities(case.models[task.model])
        decisive = "class of the mean softmax over the votes" if averages else "majority of the votes"
        settings["rule"] = f"an example counts as fooled when the {decisive} is wrong"
    if may_reject(case.models[task.model]):
        settings["rule"] = "an example counts as fooled when it is wrong and accepted; a rejected clean image is wrong"
    return settings
