"""How adversarial images are made on a model: random models, detectors and targets included."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from grfd.attacks.registry import entry_of
from grfd.defenses import is_stochastic
from grfd.evaluation.attacker import Attempt, Excused, Scaled, answer, attack, attacked_model, may_reject, surrogate_of
from grfd.types import Images, Labels, Logits


class LabelledImages(NamedTuple):
    """Images with their labels, and the class that each should be mistaken for. `targets` None: any wrong class."""

    images: Images
    labels: Labels
    targets: Labels | None = None

    def at(self, rows: Tensor) -> "LabelledImages":
        """Some of them, by their indices."""
        targets = None if self.targets is None else self.targets[rows]
        return LabelledImages(self.images[rows], self.labels[rows], targets)

    def reached(self, prediction: Tensor) -> Tensor:
        """Whether each prediction is what the attacker wants."""
        return prediction != self.labels if self.targets is None else prediction == self.targets


class Crafted(NamedTuple):
    """Adversarial images, the images that the attacked model classified for each, and what measures their change."""

    images: Images
    queries: float
    norm: str


class Towards(nn.Module):
    """A model as it is attacked towards one class: two logits, the largest of all others and that of the target.

    An example of class 0 is then classified wrongly exactly where the model predicts the target, so that every
    untargeted attack is a targeted one.
    """

    def __init__(self, model: nn.Module, target: int) -> None:
        super().__init__()
        self.model = model
        self.target = target

    def forward(self, images: Images) -> Logits:
        logits = answer(self.model, images)
        before, own, behind = logits.tensor_split((self.target, self.target + 1), dim=1)
        return torch.cat([torch.cat([before, behind], 1).amax(1, keepdim=True), own], 1)


def craft(source: nn.Module, examples: LabelledImages, attempt: Attempt) -> Crafted:
    """Adversarial images made on `source`. If its answers are random, no example leaves the attack early.

    AutoAttack has a version for random models, which draws its own samples.
    """
    if examples.targets is not None:
        return _towards_targets(source, examples, attempt)
    if may_reject(source):
        return _at_detector(source, examples, attempt)
    images, labels, _ = examples
    return _crafted(*_as_attacked(source, attempt), images, labels)


def _as_attacked(source: nn.Module, attempt: Attempt) -> tuple[nn.Module, Attempt]:
    if not is_stochastic(source):
        return attacked_model(source, attempt.scale), attempt
    own_draws = attempt.name == "aa"
    random: dict[str, Any] = {"version": "rand"} if own_draws else {"active_set": False}
    model = Scaled(surrogate_of(source), attempt.scale) if own_draws else attacked_model(source, attempt.scale)
    return model, attempt._replace(settings=attempt.settings | random)


def _crafted(model: nn.Module, attempt: Attempt, images: Images, labels: Labels) -> Crafted:
    if attempt.settings.get("eps") == 0:  # nothing to search
        return Crafted(images.clone(), 0.0, attempt.norm)
    return Crafted(*attack(model, images, labels, attempt), attempt.norm)


def _at_detector(detector: nn.Module, examples: LabelledImages, attempt: Attempt) -> Crafted:
    """Attacks class by class, because success against a detector depends on the label."""
    if is_stochastic(detector):
        attempt = attempt._replace(settings=attempt.settings | {"active_set": False})
    attacked = attacked_model(detector, attempt.scale)
    result = Crafted(examples.images.clone(), 0.0, attempt.norm)
    for label in examples.labels.unique().tolist():
        excused = Excused(attacked, int(detector.rejection), label)  # type: ignore[arg-type]
        result = _filled(result, examples.labels == label, excused, attempt, examples.labels)
    return result


def _towards_targets(source: nn.Module, examples: LabelledImages, attempt: Attempt) -> Crafted:
    """Attacks target by target. Images that are of the target class are left alone."""
    attacked, attempt = _as_attacked(source, attempt)
    result = Crafted(examples.images.clone(), 0.0, attempt.norm)
    assert examples.targets is not None
    for target in examples.targets.unique().tolist():
        mine = (examples.targets == target) & (examples.labels != target)
        zeros = torch.zeros_like(examples.labels)
        result = _filled(result, mine, Towards(attacked, target), attempt, zeros)
    return result


def _filled(result: Crafted, mine: Tensor, model: nn.Module, attempt: Attempt, labels: Labels) -> Crafted:
    if not mine.any():
        return result
    made = _crafted(model, attempt, result.images[mine], labels[mine])
    result.images[mine] = made.images
    return result._replace(queries=result.queries + made.queries * float(mine.float().mean()))


def for_transfer(attempt: Attempt) -> Attempt:
    """The attack with the settings for examples that are meant for other models than the source."""
    return attempt._replace(settings=attempt.settings | entry_of(attempt.name).transfer)


def measures_distance(attempt: Attempt) -> bool:
    """Whether the attack searches for the smallest perturbation of all, without a bound."""
    return math.isinf(attempt.settings.get("eps", 0.0))
