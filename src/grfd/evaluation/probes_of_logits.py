"""Probes of the logits themselves: their values, their scale, and that of the inputs they need.

They have the form of those in `grfd.evaluation.probes`.
"""

from collections.abc import Callable

import scipy
import torch
from torch import Tensor, nn

from grfd.data.record import as_images
from grfd.evaluation import scale
from grfd.evaluation.attacker import answer, may_reject, predictions
from grfd.evaluation.case import Case
from grfd.evaluation.findings import Finding, affordable, is_large, share_of
from grfd.seeds import generator
from grfd.types import Images, Labels, Logits

UNDERFLOW = 88.0
"""exp(−88) is about the smallest normal float32. Beyond this gap a softmax is saturated."""
SATURATED = 0.1
"""The share of images whose softmax may underflow at the scale of the attack."""
BETTER_SCALE = 0.05
"""How much more accurate another scale of the inputs must be to raise a flag."""
TWICE = "with a normalisation undone"
REDUCED = 0.8
"""A second normalisation costs little accuracy, but the cross-entropy is lowest at the scale of the training. If it
falls below this share when a normalisation is undone, and the accuracy stays, there was one too many. For a LeNet5
without this mistake, undoing a normalisation raises the cross-entropy several times."""
AT_TRAINING = 1.5
"""At the scale of the training, no other factor on the logits reduces the cross-entropy much. Where it does, the logits
are too large for another reason than a second normalisation."""
MANY, MANY_LARGE = 1_000, 50
"""Images for the probe of the inputs' scale; the second number is of large images."""
LUCK = 0.01
"""A clean accuracy is at chance if guessing reaches it with a larger probability."""
AS_ACCURATE = 0.01
"""Accuracies that differ by at most this much count as equal."""


def not_a_number(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Logits that are not finite, for the images, for noise, and for black and white images."""
    stream = generator(case.seed, "check", "noise", device=case.device)
    noise = torch.rand(images.shape, generator=stream, device=images.device)
    inputs = {"the images": images, "noise": noise, "black": torch.zeros_like(images), "white": torch.ones_like(images)}
    with torch.no_grad():
        bad = {name: share_of(~answer(model, each).isfinite().all(1)) for name, each in inputs.items()}
    named = ", ".join(f"{share:.1%} of {name}" for name, share in bad.items() if share)
    return bool(named), f"logits are not finite for {named}" if named else "all logits are finite"


def saturated_logits(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Logits so far apart that their softmax is 0 or 1, with a gradient of 0, also at the scale of the attack.

    The judge multiplies all logits of a model by one factor, so logits that are merely large are no obstacle to it.
    They are one to an attack that climbs the cross-entropy as it is, and the detail says so.

    A model that declares `training_temperature` was trained on logits divided by it, and answers without that division,
    as defensive distillation does. Where this alone saturates the softmax, it is flagged: gradients of the deployed
    model vanish, and robustness that other tools measure comes from that.
    """
    images, labels = affordable(model, images, labels)
    with torch.no_grad():
        best = answer(model, images).double().topk(2, dim=1).values
    gaps = best[:, 0] - best[:, 1]
    gap, share = gaps.median().item(), share_of(gaps * scale.scale_of(best) >= UNDERFLOW)
    detail = f"median gap between the two largest logits: {gap:.3g}"
    if not gap < UNDERFLOW:
        detail += " (attacks that climb the cross-entropy of these logits see no gradient; ours rescale them)"
    detail += f"; at the scale of the attack it is above {UNDERFLOW:.0f} on {share:.1%} (flagged above 10 %)"
    hidden, reason = _saturated_by_temperature(model, gaps)
    return hidden or not (share <= SATURATED and bool(gaps.isfinite().all())), detail + reason


def _saturated_by_temperature(model: nn.Module, gaps: Tensor) -> Finding:
    """Whether the logits saturate only because they are not divided by the temperature of the training."""
    temperature = float(getattr(model, "training_temperature", 1.0))
    if temperature == 1.0:
        return False, ""
    deployed, trained = share_of(gaps >= UNDERFLOW), share_of(gaps / temperature >= UNDERFLOW)
    reason = f"; the model was trained at temperature {temperature:g} and answers without it: the gap is above "
    reason += f"{UNDERFLOW:.0f} on {deployed:.1%}, and on {trained:.1%} if divided by it"
    return deployed > SATURATED, reason


def probabilities(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Answers that are probabilities instead of logits. A cross-entropy would apply a second softmax."""
    with torch.no_grad():
        answers = answer(model, images)
    total = (answers.sum(1) - 1).abs().max().item()
    flagged = bool((answers >= 0).all()) and total < 1e-3
    return flagged, "answers lie in [0, 1] and sum to 1: give logits" if flagged else "answers are no probabilities"


def input_scale(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Whether the model is better on inputs of another scale: [0, 255], [−1, 1], or one normalisation more or less.

    It uses more images than it is given, because a second normalisation changes only few predictions.
    """
    many = MANY_LARGE if is_large(images) else MANY
    images = as_images(case.split.images[:many].to(case.device))
    labels = case.split.labels[:many].to(case.device)
    mean, spread = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    scales: dict[str, Callable[[Images], Images]] = {
        "in [0, 255]": lambda each: each * 255,
        "in [−1, 1]": lambda each: each * 2 - 1,
        "normalised by mean and deviation": lambda each: (each - mean) / spread,
        TWICE: lambda each: each * spread + mean,
    }
    with torch.no_grad():
        logits_of = {name: answer(model, change(images)) for name, change in ({"plain": _plain} | scales).items()}
    right = {name: share_of(logits.argmax(1) == labels) for name, logits in logits_of.items()}
    cross_entropy = {name: nn.functional.cross_entropy(logits, labels).item() for name, logits in logits_of.items()}
    best = max(scales, key=lambda name: right[name])
    if _at_chance((logits_of["plain"].argmax(1) == labels).sum().item(), len(labels), logits_of["plain"].shape[1]):
        return False, "not tested: clean accuracy is at chance"
    reduced = cross_entropy[TWICE] < REDUCED * cross_entropy["plain"]
    trained = cross_entropy[TWICE] < AT_TRAINING * _lowest_cross_entropy(logits_of[TWICE], labels)
    if right[TWICE] >= right["plain"] - AS_ACCURATE and reduced and trained:
        detail = (
            f"the cross-entropy is {cross_entropy['plain']:.2f} on [0, 1], but {cross_entropy[TWICE]:.2f} on inputs "
        )
        return True, detail + f"{TWICE}: the model may normalise twice"
    if right[best] > right["plain"] + BETTER_SCALE:
        return True, f"{right['plain']:.1%} right on [0, 1], but {right[best]:.1%} on inputs {best}: wrap the model so"
    return False, f"{right['plain']:.1%} right on [0, 1], at most {right[best]:.1%} on other scales"


def _plain(images: Images) -> Images:
    return images


def _lowest_cross_entropy(logits: Logits, labels: Labels) -> float:
    """The lowest cross-entropy over factors on the logits, from 1/100 to 100 times the judge's."""
    factors = scale.scale_of(logits) * torch.logspace(-2, 2, 41, device=logits.device)
    return min(nn.functional.cross_entropy(factor * logits, labels).item() for factor in factors)


def at_chance(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Clean accuracy no better than guessing: wrong labels, another order of the classes, or wrong weights."""
    images, labels = affordable(model, images, labels)
    classes = answer(model, images[:1]).shape[1] - may_reject(model)
    right = (predictions(model, images) == labels).sum().item()
    detail = f"{right / len(labels):.1%} of {len(labels)} clean images are right; "
    detail += f"guessing among {classes} classes gives {1 / classes:.1%}"
    if not _at_chance(right, len(labels), classes):
        return False, detail
    return True, f"clean accuracy is at chance: {detail}. Are labels, order of the classes and weights the right ones?"


def _at_chance(right: float, count: int, classes: int) -> bool:
    """Whether guessing gets at least as many images right with a probability above `LUCK`; never if all are right."""
    return right < count and float(scipy.stats.binom.sf(right - 1, count, 1 / classes)) > LUCK
