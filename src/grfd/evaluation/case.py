"""What is judged: the request, the models, images and budgets, the tasks, and the settings of each record."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd import schema
from grfd.attacks import ALL_ATTACKS, TABLE_1_ATTACKS
from grfd.attacks.ranges import SHARE, in_range
from grfd.data.record import Split, as_images
from grfd.defenses import has_residual, is_stochastic
from grfd.errors import UserError
from grfd.evaluation import identity, protocols, scale
from grfd.evaluation.attacker import may_reject, votes_of
from grfd.evaluation.protocols import PROTOCOLS
from grfd.seeds import seeded

SOURCE = "standard"
"""The model of a run on which `transfer` makes its adversarial examples."""
CONTROL = "second-standard"
"""The model of a run that is judged under `transfer` only. Its robust accuracy is not due to any defense."""


@dataclass(frozen=True)
class Request(schema.Settings):
    """What an evaluation is asked for. Its constructor raises `UserError` for unknown names and values out of range."""

    protocols: tuple[str, ...] = ("transfer", "whitebox", "adaptive")
    attacks: tuple[str, ...] = TABLE_1_ATTACKS
    examples: schema.Examples = 1000
    """Number of test images to attack, counted from the first."""
    eps: schema.Pixels | None = None
    """One ε for all attacks, in pixels of [0, 1], instead of the budgets of Table 1."""

    def conflict(self) -> str | None:
        return _unknown("protocol", self.protocols, PROTOCOLS) or _unknown("attack", self.attacks, ALL_ATTACKS)


def _unknown(kind: str, names: Sequence[str], known: Iterable[str]) -> str | None:
    """The mistake in a list of names, of which each must be known; None if there is none."""
    if not names:
        return f"no {kind} is named: expected at least one of {', '.join(known)}"
    wrong = [name for name in names if name not in known]
    return f"unknown {kind} {wrong[0]!r}: expected one of {', '.join(known)}" if wrong else None


@dataclass(frozen=True)
class Case:
    """What is judged: models by name, images and budgets, and the folder of the records.

    `sources`: the models on which transferred examples are made. `identities`: the facts by which each model is
    recognised; they are stored in the records, so that records of another model are replaced. `scales`: the factor by
    which each model's logits are multiplied before it is attacked. `looked_at` computes these two.
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


@dataclass(frozen=True)
class Task:
    """One attack on one model under one protocol: one record file."""

    model: str
    protocol: str
    attack: str


def budgets_for(channels: int, eps: float | None = None) -> dict[str, dict[str, Any]]:
    """The budgets of the registry: those for MNIST if images are grey, those for CIFAR if they have colours.

    `eps`: one ε for all attacks in L∞, in pixels of [0, 1]; step sizes are scaled with it. Attacks with another threat
    model then have no budget, because this ε does not apply to them.
    """
    budgets = {name: entry.grey if channels == 1 else entry.colour for name, entry in ALL_ATTACKS.items()}
    if eps is None:
        return budgets
    in_range(eps=(eps, SHARE))
    return {name: _rescaled(budget, eps) for name, budget in budgets.items() if ALL_ATTACKS[name].threat == "linf"}


def check_budgets(budgets: dict[str, dict[str, Any]], attacks: Sequence[str]) -> None:
    """Raises `UserError` if one ε was given for all attacks and does not apply to one of them."""
    left = [name for name in attacks if name not in budgets]
    if left:
        kinds = {"l2": "the Euclidean length", "pixels": "which pixels are moved, not how far"}
        threats = ", ".join(f"{name} ({kinds.get(ALL_ATTACKS[name].threat, 'L∞')})" for name in left)
        raise UserError(
            f"one ε for all attacks is in L∞, but another measure bounds {threats}: leave the attack out, or leave out "
            "eps"
        )


def _rescaled(budget: dict[str, Any], eps: float) -> dict[str, Any]:
    changed = {"eps": eps, "step_size": budget.get("step_size", 0) * eps / budget.get("eps", 1)}
    return budget | {name: value for name, value in changed.items() if name in budget}


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
        Task(model, protocol, attack)
        for attack in request.attacks
        for protocol in order
        for model, defense in case.models.items()
        if _applies(case, model, protocol, defense)
    ]


def _applies(case: Case, model: str, protocol: str, defense: nn.Module) -> bool:
    if protocol == "transfer":
        return bool(sources_for(case, model))
    return model != CONTROL and (protocol != "residual" or has_residual(defense))


def sources_for(case: Case, model: str) -> list[str]:
    """The models on which examples against this one are made under `transfer`."""
    return [name for name in case.sources if name != model]


@torch.no_grad()
def looked_at(case: Case) -> Case:
    """The case with the identity of each model and the scale of its logits."""
    images = as_images(case.split.images[: scale.SCALE_EXAMPLES].to(case.device))
    identities, scales = {}, {}
    for name, model in case.models.items():
        with seeded(case.seed, "look", name):
            identities[name] = identity.known_by(model, images)
            scales[name] = scale.logit_scale(model, images)
    return replace(case, identities=identities, scales=scales)


def settings_of(case: Case, task: Task) -> dict[str, Any]:
    """The settings that are stored in the record. A record with other settings is replaced."""
    settings: dict[str, Any] = {"attack": case.budgets[task.attack], "seed": case.seed, "judge": identity.VERSION}
    involved = [task.model]
    if task.protocol in ("transfer", "adaptive"):
        settings["transfer"] = ALL_ATTACKS[task.attack].transfer
        involved += sources_for(case, task.model)
    if task.protocol == "adaptive":
        settings["extra"] = [[name, changes] for name, changes in protocols.EXTRA.get(task.attack, ())]
    settings["models"] = {name: case.identities[name] for name in involved}
    if is_stochastic(case.models[task.model]):
        settings["votes"] = votes_of(case.models[task.model])
        settings["rule"] = "an example counts as fooled when the majority of the votes is wrong"
    if may_reject(case.models[task.model]):
        settings["rule"] = "an example counts as fooled when it is wrong and accepted; a rejected clean image is wrong"
    return settings
