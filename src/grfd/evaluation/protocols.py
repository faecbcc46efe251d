"""What the attacker knows. A protocol turns a batch of clean images into the outcome of one attack on one model."""

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
from grfd.evaluation.scale import logit_scale
from grfd.types import Images, Labels

Protocol = Literal["transfer", "whitebox", "adaptive", "residual"]

PROTOCOLS: dict[Protocol, str] = {
    "transfer": "made on the standard model, with all steps, then given to this one",
    "whitebox": "made on the whole defense, end to end, with z = μ",
    "adaptive": "all that whitebox and transfer found, then more losses, restarts and a gradient-free attack; "
    "EOT where answers are random, BPDA where there is no gradient",
    "residual": "made on x_r against the target model alone",
}

FINE = 1 / 9
"""The small step of a restart, as a share of ε: MNIST's 2/255 for PGD's 18/255."""

EXTRA: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "fgsm": (("fgsm", {"loss": "dlr"}), ("fgsm", {"loss": "margin"})),
    "pgd": (
        ("pgd", {"loss": "dlr"}),
        ("pgd", {"loss": "margin"}),
        ("pgd", {"step_size": FINE}),
        ("square", {"n_queries": 1000}),
    ),
}
"""What `adaptive` adds to an attack of Table 1, at that attack's ε, on the examples which still stand. A step size is
a share of ε. AutoAttack brings its own losses, restarts and gradient-free part."""


class Outcome(NamedTuple):
    """Of one attack on a batch: predictions after it, L∞ norm of each perturbation, images shown to the model each."""

    prediction: Tensor
    norm: Tensor
    queries: Tensor


class Crafted(NamedTuple):
    """Adversarial images, and the images that the attacked model was shown an example."""

    images: Images
    queries: float


def craft(source: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> Crafted:
    """Adversarial images on `source`; none of its examples leaves early where its answers are random.

    AutoAttack has a version of its own for random models, which draws its own samples.
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
    """Class by class, since what counts as fooled depends on the label."""
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
    """What `victim` makes of adversarial images: exactly the tensors that are recorded are shown to it."""
    norm = (crafted.images - images).abs().flatten(1).amax(1)
    return Outcome(
        predictions_under_attack(victim, crafted.images, labels), norm, torch.full_like(norm, crafted.queries)
    )


def whitebox(defense: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> Outcome:
    """The examples are made on the whole defense, with z = μ, and given to that."""
    known = without_randomness(defense)
    return outcome_on(known, images, labels, craft(known, images, labels, attempt))


def for_transfer(attempt: Attempt) -> Attempt:
    """The attack with the settings that make examples which are meant for another model than the source."""
    return attempt._replace(settings=attempt.settings | ALL_ATTACKS[attempt.name].transfer)


def transfer(victim: nn.Module, images: Images, labels: Labels, crafted: Sequence[Crafted]) -> Outcome:
    """Examples that were made on other models (`for_transfer`), the best of them image by image."""
    return best_outcome([outcome_on(victim, images, labels, each) for each in crafted], labels)


def residual(defense: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> Outcome:
    """The target model is attacked on x_r. ε is in pixels of x_r, whose box is [−1, 1]."""
    features = residual_of(defense, images)
    target: nn.Module = defense.target  # type: ignore[assignment]
    # where no ε bounds an attack, it is the range of a pixel
    settings = {"eps": 2.0} | attempt.settings | {"bounds": (-1.0, 1.0)}
    crafted = craft(target, features, labels, attempt._replace(settings=settings))
    return outcome_on(target, features, labels, crafted)


def adaptive(defense: nn.Module, images: Images, labels: Labels, attempt: Attempt, known: Sequence[Outcome]) -> Outcome:
    """The best of `known` (other protocols' outcomes for these images), then of `EXTRA`, until an example falls."""
    best, settings = best_outcome(known, labels), attempt.settings
    for source, extra, changes in _trials(defense, attempt.name):
        standing = (best.prediction == labels).nonzero().squeeze(1)
        if len(standing) == 0:
            break
        chosen = settings | changes if extra == attempt.name else {"eps": settings["eps"]} | changes
        if "step_size" in changes:
            chosen["step_size"] = changes["step_size"] * settings["eps"]
        part, wanted = images[standing], labels[standing]
        scale = attempt.scale if source is defense else logit_scale(source, images)
        crafted = craft(source, part, wanted, Attempt(extra, chosen, attempt.generator, scale))
        more = outcome_on(defense, part, wanted, crafted)
        best = _merged(best, standing, more, labels)
    return best


def _trials(defense: nn.Module, name: str) -> list[tuple[nn.Module, str, dict[str, Any]]]:
    """What is attacked, by which attack, with which of its settings changed."""
    others = stand_ins_of(defense).values()
    again = [defense] if is_stochastic(defense) else []
    return [
        *((source, name, {}) for source in (*again, *others)),
        *((defense, extra, changes) for extra, changes in EXTRA.get(name, ())),
    ]


def best_outcome(outcomes: Sequence[Outcome], labels: Labels) -> Outcome:
    """Example by example the first outcome that fools; the queries of all add up."""
    best = outcomes[0]
    for other in outcomes[1:]:
        best = _better(best, other, labels)
    return best


def _better(first: Outcome, second: Outcome, labels: Labels) -> Outcome:
    """Example by example: the second where it fools and the first does not; the queries of both add up."""
    take = (first.prediction == labels) & (second.prediction != labels)
    return Outcome(
        second.prediction.where(take, first.prediction),
        second.norm.where(take, first.norm),
        first.queries + second.queries,
    )


def _merged(best: Outcome, standing: Tensor, more: Outcome, labels: Labels) -> Outcome:
    everything = Outcome(*(column.clone() for column in best))
    part = _better(Outcome(*(column[standing] for column in best)), more, labels[standing])
    for whole, piece in zip(everything, part, strict=True):
        whole[standing] = piece
    return everything
