"""Protocols: what the attacker knows. Each turns a batch of clean images into the outcome of an attack on a model."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from grfd.defenses import is_stochastic
from grfd.evaluation.attacker import (
    Attempt,
    lengths,
    predictions_under_attack,
    residual_of,
    stand_ins_of,
    without_randomness,
)
from grfd.evaluation.crafting import Crafted, LabelledImages, craft, measures_distance
from grfd.evaluation.scale import RANDOM_SCALE_EXAMPLES, logit_scale
from grfd.types import Images

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
    "a3": (("square", {"n_queries": 300}),),
}
"""Attacks that `adaptive` adds to one of Table 1, with that attack's ε, on the examples that are still classified
correctly. A step size is a fraction of ε. AutoAttack has its own losses, restarts and gradient-free part."""


class Outcome(NamedTuple):
    """The outcome of an attack on a batch: predictions, lengths of the perturbations, images classified for each.

    `images`: the adversarial images, or None if they come from a record without images.
    """

    prediction: Tensor
    norm: Tensor
    queries: Tensor
    images: Images | None


def outcome_on(victim: nn.Module, examples: LabelledImages, crafted: Crafted) -> Outcome:
    """The victim's predictions of adversarial images, with the lengths of their perturbations."""
    norm = lengths(crafted.images - examples.images, crafted.norm)
    prediction = predictions_under_attack(victim, crafted.images, examples.labels)
    return Outcome(prediction, norm, torch.full_like(norm, crafted.queries), crafted.images)


def whitebox(defense: nn.Module, examples: LabelledImages, attempt: Attempt) -> Outcome:
    """The examples are made on the whole defense, with z = μ, and classified by it."""
    known = without_randomness(defense)
    return outcome_on(known, examples, craft(known, examples, attempt))


def transfer(victim: nn.Module, examples: LabelledImages, crafted: Sequence[Crafted]) -> Outcome:
    """The outcome of examples that were made on other models (`for_transfer`): for each image, the best of them."""
    return best_outcome([outcome_on(victim, examples, each) for each in crafted], examples)


def residual(defense: nn.Module, examples: LabelledImages, attempt: Attempt) -> Outcome:
    """The target model alone is attacked on x_r. ε is in pixels of x_r, which lie in [−1, 1]."""
    features = examples._replace(images=residual_of(defense, examples.images))
    target: nn.Module = defense.target  # type: ignore[assignment]
    # an attack without an ε may change a pixel over its whole range
    settings = {"eps": 2.0} | attempt.settings | {"bounds": (-1.0, 1.0)}
    return outcome_on(target, features, craft(target, features, attempt._replace(settings=settings)))


def adaptive(defense: nn.Module, examples: LabelledImages, attempt: Attempt, known: Sequence[Outcome]) -> Outcome:
    """The best of `known`, which are other protocols' outcomes for these images, and of `EXTRA` where none succeeds.

    An attack that measures distances is repeated on all images, because a shorter perturbation may exist.
    """
    best, settings = best_outcome(known, examples), attempt.settings
    for source, extra, changes in _trials(defense, attempt.name):
        remaining = (~examples.reached(best.prediction)).nonzero().squeeze(1)
        if measures_distance(attempt):
            remaining = torch.arange(len(examples.labels), device=remaining.device)
        if len(remaining) == 0:
            break
        kept = {name: settings[name] for name in ("eps", "norm") if name in settings}
        chosen = settings | changes if extra == attempt.name else kept | changes
        if "step_size" in changes:
            chosen["step_size"] = changes["step_size"] * settings["eps"]
        scale = attempt.scale if source is defense else logit_scale(source, examples.images[:RANDOM_SCALE_EXAMPLES])
        part = examples.at(remaining)
        crafted = craft(source, part, Attempt(extra, chosen, attempt.generator, scale, attempt.pass_images))
        best = merged(best, remaining, outcome_on(defense, part, crafted), examples)
    return best


def _trials(defense: nn.Module, name: str) -> list[tuple[nn.Module, str, dict[str, Any]]]:
    """The models to attack, each with the name of the attack and the settings to change."""
    others = stand_ins_of(defense).values()
    again = [defense] if is_stochastic(defense) else []
    return [
        *((source, name, {}) for source in (*again, *others)),
        *((defense, extra, changes) for extra, changes in EXTRA.get(name, ())),
    ]


def cut_at(outcome: Outcome, clean: Outcome, eps: float) -> Outcome:
    """The outcome of a minimal-norm attack at one ε: where the perturbation is longer, the image stays clean."""
    inside = outcome.norm <= eps
    images = None if outcome.images is None or clean.images is None else clean.images.clone()
    if images is not None and outcome.images is not None:
        images[inside] = outcome.images[inside]
    return Outcome(
        outcome.prediction.where(inside, clean.prediction), outcome.norm.where(inside, 0.0), outcome.queries, images
    )


def best_outcome(outcomes: Sequence[Outcome], examples: LabelledImages) -> Outcome:
    """For each example the success with the shortest perturbation, or the first outcome. Queries are added."""
    best = outcomes[0]
    for other in outcomes[1:]:
        best = _better(best, other, examples)
    return best


def _better(first: Outcome, second: Outcome, examples: LabelledImages) -> Outcome:
    succeeded, also = examples.reached(first.prediction), examples.reached(second.prediction)
    take = also & (~succeeded | (second.norm < first.norm))
    images = None
    if first.images is not None and second.images is not None:
        images = second.images.where(take[:, None, None, None], first.images)
    return Outcome(
        second.prediction.where(take, first.prediction),
        second.norm.where(take, first.norm),
        first.queries + second.queries,
        images,
    )


def merged(best: Outcome, rows: Tensor, more: Outcome, examples: LabelledImages) -> Outcome:
    """The better outcome for each example, where `more` is only of the examples at `rows`."""
    part = _better(at(best, rows), more, examples.at(rows))
    prediction, norm, queries = (column.clone() for column in best[:3])
    for whole, piece in zip((prediction, norm, queries), part[:3], strict=True):
        whole[rows] = piece
    if best.images is None or part.images is None:
        return Outcome(prediction, norm, queries, None)
    images = best.images.clone()
    images[rows] = part.images
    return Outcome(prediction, norm, queries, images)


def at(outcome: Outcome, rows: Tensor) -> Outcome:
    """The outcome for some of the examples, by their indices."""
    images = None if outcome.images is None else outcome.images[rows]
    return Outcome(outcome.prediction[rows], outcome.norm[rows], outcome.queries[rows], images)
