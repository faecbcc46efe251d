"""What is judged: models, images and budgets; the cells that there are to do; and what each record says of itself."""

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
"""The model of a run on which transferred adversarial examples are made."""
CONTROL = "second-standard"
"""The model of a run that is there for `transfer` alone: what it keeps is no defense."""


@dataclass(frozen=True)
class Request(schema.Record):
    """What an evaluation is asked for. Raises `UserError` for unknown names and values out of range when it is made."""

    protocols: tuple[str, ...] = ("transfer", "whitebox", "adaptive")
    attacks: tuple[str, ...] = TABLE_1_ATTACKS
    examples: schema.Examples = 1000
    """The first images of the test split."""
    eps: schema.Pixels | None = None
    """One ε for all attacks, in pixels of [0, 1], in place of Table 1's."""

    def conflict(self) -> str | None:
        return _unknown("protocol", self.protocols, PROTOCOLS) or _unknown("attack", self.attacks, ALL_ATTACKS)


def _unknown(kind: str, names: Sequence[str], known: Iterable[str]) -> str | None:
    """What is wrong with names that are to be some of those known; None where nothing is."""
    if not names:
        return f"no {kind} is named: expected at least one of {', '.join(known)}"
    wrong = [name for name in names if name not in known]
    return f"unknown {kind} {wrong[0]!r}: expected one of {', '.join(known)}" if wrong else None


@dataclass(frozen=True)
class Case:
    """What is judged: models by name, images, and where the records go.

    `sources` are the models on which transferred examples are made. `identities` (what each model is known by) and
    `scales` (what its logits are multiplied by before it is attacked) are found by `looked_at`, for the models of this
    case; the identities go into the records, so that those of other models are made anew.
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
class Cell:
    """One attack on one model under one protocol: one record file."""

    model: str
    protocol: str
    attack: str


def budgets_for(channels: int, eps: float | None = None) -> dict[str, dict[str, Any]]:
    """Table 1's budgets, and ours for other attacks: MNIST's for grey images, CIFAR's for colour.

    `eps`: one ε for all attacks in L∞, in pixels of [0, 1]; step sizes grow or shrink with it. Attacks of another
    threat model then have no budget, since this ε says nothing of theirs.
    """
    budgets = {name: entry.grey if channels == 1 else entry.colour for name, entry in ALL_ATTACKS.items()}
    if eps is None:
        return budgets
    in_range(eps=(eps, SHARE))
    return {name: _rescaled(budget, eps) for name, budget in budgets.items() if ALL_ATTACKS[name].threat == "linf"}


def check_budgets(budgets: dict[str, dict[str, Any]], attacks: Sequence[str]) -> None:
    """Raises `UserError` where an attack has no budget under the ε that was asked for."""
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
"""Protocol → what it needs of the models."""


def check_applies(case: Case, wanted: Sequence[str]) -> None:
    """Raises `UserError` for a protocol that none of the models can be attacked under.

    Whoever names all of them means those that apply.
    """
    for protocol in wanted if set(wanted) != set(PROTOCOLS) else ():
        if not any(_applies(case, model, protocol, defense) for model, defense in case.models.items()):
            raise UserError(f"protocol {protocol} applies to none of {', '.join(case.models)}: {NEEDED[protocol]}")


def cells_of(case: Case, request: Request) -> list[Cell]:
    """What there is to do, in order: whitebox and transfer come first, since adaptive builds on them."""
    needed = {*request.protocols, *(("whitebox", "transfer") if "adaptive" in request.protocols else ())}
    order = [name for name in ("whitebox", "transfer", "residual", "adaptive") if name in needed]
    return [
        Cell(model, protocol, attack)
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
    return [name for name in case.sources if name != model]


@torch.no_grad()
def looked_at(case: Case) -> Case:
    """The case with what each of its models is known by, and with the scale of its logits."""
    images = as_images(case.split.images[: scale.SCALE_EXAMPLES].to(case.device))
    identities, scales = {}, {}
    for name, model in case.models.items():
        count = RANDOM_SCALE_EXAMPLES if is_stochastic(model) else len(images)
        with seeded(case.seed, "look", name):
            identities[name] = identity.known_by(model, images)
            scales[name] = scale.logit_scale(model, images[:count])
    return replace(case, identities=identities, scales=scales)


RANDOM_SCALE_EXAMPLES = 20
"""Images from which a random model's scale is found: an answer of it may be a whole purification."""


def settings_of(case: Case, cell: Cell) -> dict[str, Any]:
    """What is recorded with the examples; a record of other settings is made anew."""
    settings: dict[str, Any] = {"attack": case.budgets[cell.attack], "seed": case.seed, "judge": identity.VERSION}
    involved = [cell.model]
    if cell.protocol in ("transfer", "adaptive"):
        settings["transfer"] = ALL_ATTACKS[cell.attack].transfer
        involved += sources_for(case, cell.model)
    if cell.protocol == "adaptive":
        settings["extra"] = [[name, changes] for name, changes in protocols.EXTRA.get(cell.attack, ())]
    settings["models"] = {name: case.identities[name] for name in involved}
    if is_stochastic(case.models[cell.model]):
        settings["votes"] = votes_of(case.models[cell.model])
        settings["rule"] = "an example counts as fooled when the majority of the votes is wrong"
    if may_reject(case.models[cell.model]):
        settings["rule"] = "an example counts as fooled when it is wrong and accepted; a rejected clean image is wrong"
    return settings
