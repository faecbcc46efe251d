"""Protocols: what the attacker knows. Each turns a batch of clean images into the outcome of an attack on a model."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS
from grfd.defenses import is_stochastic
from grfd.evaluation.attacker import (
    Attempt,
    Excused,
    Scaled,
    attack,
    attacked_model,
    may_reject,
    predictions_under_attack,
    residual_of,
    stand_ins_of,
    surrogate_of,
    without_randomness,
)
from grfd.evaluation.scale import RANDOM_SCALE_EXAMPLES, logit_scale
from grfd.types import Images, Labels

Protocol = Literal["transfer", "whitebox", "adaptive", "residual"]

PROTOCOLS: dict[Protocol, str] = {
    "transfer": "made on the standard model, with all steps, then given to this one",
    "whitebox": "made on the whole defense, end to end, with z = μ",
    "adaptive": "all that whitebox and transfer found, then more losses, restarts and a gradient-free attack; "
    "EOT where answers are random, BPDA where there is no gradient",
    "residual": "made on x_r against the target model alone",
}

COMPARED: tuple[Protocol, ...] = ("transfer", "whitebox", "adaptive")
"""The protocols under which every defense can be judged and compared with the others."""

FINE = 1 / 9
"""The small step size of a restart, as a fraction of ε (on MNIST: 2/255 at PGD's ε of 18/255)."""

EXTRA: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "fgsm": (("fgsm", {"loss": "dlr"}), ("fgsm", {"loss": "margin"})),
    "pgd": (
        ("pgd", {"loss": "dlr"}),
        ("pgd", {"loss": "margin"}),
        ("pgd", {"step_size": FINE}),
        ("square", {"n_queries": 1000}),
    ),
}
"""Attacks that `adaptive` adds to one of Table 1, with that attack's ε, on the examples that are still classified
correctly. A step size is a fraction of ε. AutoAttack has its own losses, restarts and gradient-free part."""


class Outcome(NamedTuple):
    """The outcome of an attack on a batch: predictions, L∞ norms of perturbations, and images classified for each."""

    prediction: Tensor
    norm: Tensor
    queries: Tensor


class Crafted(NamedTuple):
    """Adversarial images, and the number of images that the attacked model classified for each."""

    images: Images
    queries: float


def craft(source: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> Crafted:
    """Adversarial images made on `source`. If its answers are random, no example leaves the attack early.

    AutoAttack has a version for random models, which draws its own samples.
    """
    if may_reject(source):
        return _at_detector(source, images, labels, attempt)
    if not is_stochastic(source):
        return Crafted(*attack(attacked_model(source, attempt.scale), images, labels, attempt))
    own_draws = attempt.name == "aa"
    random: dict[str, Any] = {"version": "rand"} if own_draws else {"active_set": False}
    model = Scaled(surrogate_of(source), attempt.scale) if own_draws else attacked_model(source, attempt.scale)
    return Crafted(*attack(model, images, labels, attempt._replace(settings=attempt.settings | random)))


def _at_detector(detector: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> Crafted:
    """Attacks class by class, because success against a detector depends on the label."""
    if is_stochastic(detector):
        attempt = attempt._replace(settings=attempt.settings | {"active_set": False})
    adversarial, queries = images.clone(), 0.0
    for label in labels.unique().tolist():
        mine = labels == label
        attacked = attacked_model(detector, attempt.scale)
        excused = Excused(attacked, int(detector.rejection), label)  # type: ignore[arg-type]
        adversarial[mine], cost = attack(excused, images[mine], labels[mine], attempt)
        queries += cost * int(mine.sum()) / len(labels)
    return Crafted(adversarial, queries)


def outcome_on(victim: nn.Module, images: Images, labels: Labels, crafted: Crafted) -> Outcome:
    """The victim's predictions of adversarial images, with the norms of their perturbations."""
    norm = (crafted.images - images).abs().flatten(1).amax(1)
    return Outcome(
        predictions_under_attack(victim, crafted.images, labels), norm, torch.full_like(norm, crafted.queries)
    )


def whitebox(defense: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> Outcome:
    """The examples are made on the whole defense, with z = μ, and classified by it."""
    known = without_randomness(defense)
    return outcome_on(known, images, labels, craft(known, images, labels, attempt))


def for_transfer(attempt: Attempt) -> Attempt:
    """The attack with the settings for examples that are meant for other models than the source."""
    return attempt._replace(settings=attempt.settings | ALL_ATTACKS[attempt.name].transfer)


def transfer(victim: nn.Module, images: Images, labels: Labels, crafted: Sequence[Crafted]) -> Outcome:
    """The outcome of examples that were made on other models (`for_transfer`): for each image, the best of them."""
    return best_outcome([outcome_on(victim, images, labels, each) for each in crafted], labels)


def residual(defense: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> Outcome:
    """The target model alone is attacked on x_r. ε is in pixels of x_r, which lie in [−1, 1]."""
    features = residual_of(defense, images)
    target: nn.Module = defense.target  # type: ignore[assignment]
    # an attack without an ε may change a pixel over its whole range
    settings = {"eps": 2.0} | attempt.settings | {"bounds": (-1.0, 1.0)}
    crafted = craft(target, features, labels, attempt._replace(settings=settings))
    return outcome_on(target, features, labels, crafted)


def adaptive(defense: nn.Module, images: Images, labels: Labels, attempt: Attempt, known: Sequence[Outcome]) -> Outcome:
    """The best of `known`, which are other protocols' outcomes for these images, and of `EXTRA` where none succeeds."""
    best, settings = best_outcome(known, labels), attempt.settings
    for source, extra, changes in _trials(defense, attempt.name):
        remaining = (best.prediction == labels).nonzero().squeeze(1)
        if len(remaining) == 0:
            break
        chosen = settings | changes if extra == attempt.name else {"eps": settings["eps"]} | changes
        if "step_size" in changes:
            chosen["step_size"] = changes["step_size"] * settings["eps"]
        part, wanted = images[remaining], labels[remaining]
        scale = attempt.scale if source is defense else logit_scale(source, images[:RANDOM_SCALE_EXAMPLES])
        crafted = craft(source, part, wanted, Attempt(extra, chosen, attempt.generator, scale))
        more = outcome_on(defense, part, wanted, crafted)
        best = _merged(best, remaining, more, labels)
    return best


def _trials(defense: nn.Module, name: str) -> list[tuple[nn.Module, str, dict[str, Any]]]:
    """The models to attack, each with the name of the attack and the settings to change."""
    others = stand_ins_of(defense).values()
    again = [defense] if is_stochastic(defense) else []
    return [
        *((source, name, {}) for source in (*again, *others)),
        *((defense, extra, changes) for extra, changes in EXTRA.get(name, ())),
    ]


def best_outcome(outcomes: Sequence[Outcome], labels: Labels) -> Outcome:
    """For each example the first outcome in which the attack succeeds. Queries are added."""
    best = outcomes[0]
    for other in outcomes[1:]:
        best = _better(best, other, labels)
    return best


def _better(first: Outcome, second: Outcome, labels: Labels) -> Outcome:
    """For each example the second outcome if only that one is a success, otherwise the first. Queries are added."""
    take = (first.prediction == labels) & (second.prediction != labels)
    return Outcome(
        second.prediction.where(take, first.prediction),
        second.norm.where(take, first.norm),
        first.queries + second.queries,
    )


def _merged(best: Outcome, remaining: Tensor, more: Outcome, labels: Labels) -> Outcome:
    everything = Outcome(*(column.clone() for column in best))
    part = _better(Outcome(*(column[remaining] for column in best)), more, labels[remaining])
    for whole, piece in zip(everything, part, strict=True):
        whole[remaining] = piece
    return everything
