"""What one model shows of itself on a batch of images, before a robust accuracy of it is believed.

Sources: Athalye et al. 2018 (arXiv:1802.00420), Carlini et al. 2019 (arXiv:1902.06705), Croce & Hein 2020
(arXiv:2003.01690), whose `checks.py` sees the first batch alone, misses gradients that vanish without being zero, and
lets one model's result leak into the next through a global. Here a probe is a function of its arguments: it returns
whether it raises a flag, and what it saw, with what that means.
"""

from collections.abc import Callable

import torch
from scipy.stats import binom
from torch import Tensor, nn

from grfd.attacks import apgd_t, fgsm, pgd, square
from grfd.attacks.losses import log_odds
from grfd.data.record import as_images
from grfd.defenses import is_stochastic
from grfd.evaluation.attacker import answer, attacked_model, may_reject, predictions
from grfd.evaluation.case import Case
from grfd.seeds import generator
from grfd.types import Images, Labels

Seen = tuple[bool, str]
Probe = Callable[[Case, nn.Module, Images, Labels], Seen]

TOLERANCE = 0.002
"""Two tenths of a point, as in AutoAttack's own check; on few examples one of them weighs more than that."""
UNDERFLOW = 88.0
"""exp(−88) is the smallest normal float32: beyond it a softmax is saturated whatever is done."""
STEP = 1 / 255
"""How far the probe of the gradient goes, in pixels of [0, 1]."""
EXPLAINED = 0.5
"""The share of the margin's changes that its gradient must predict over so small a step."""
BETTER_SCALE = 0.05
"""By how much another scale of the inputs must be more accurate before it is named."""
TWICE = "with a normalisation undone"
LESS_SURPRISED = 0.8
"""A second normalisation costs little accuracy, but a model is least surprised at the scale that it was trained on: if
undoing one leaves at most this share of the cross-entropy, and the accuracy as it was, it was one too many. An honest
LeNet5's cross-entropy is several times as high with a normalisation undone."""
MANY = 1_000
FEW, QUERIES = 100, 300
"""What random search gets."""
FEW_RANDOM = 20
"""Images on which a random model is attacked: a gradient is of many draws, and a draw may be a whole purification."""
FURTHER = 0.1
"""How much further it must get: a small honest net has a few images without any gradient, too."""
LUCK = 0.01
"""A clean accuracy that guessing reaches more often than that is at chance."""
AS_ACCURATE = 0.01
"""Accuracies that differ by no more are the same here."""


def vanishing_gradients(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Exactly zero, or so small that a loss which is not scale-free underflows."""
    images, labels = _affordable(model, images, labels)
    gradients = _gradients(attacked_model(model), images, labels)
    if gradients is None:
        return True, "the logits have no gradient with respect to the images (a forward under no_grad, or detached)"
    of_margin, of_cross_entropy = (gradient.flatten(1).norm(dim=1) for gradient in gradients)
    none, vanished = _share(of_margin == 0), _share(of_cross_entropy < 1e-12)
    detail = f"{none:.1%} of the images have a margin gradient of exactly 0; {vanished:.1%} a cross-entropy gradient "
    return none > 0.01, detail + "below 1e-12 (our attacks do not use its scale)"


def untrue_gradients(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Whether the margin moves as its gradient says, along that gradient's sign and along random signs."""
    if is_stochastic(model):
        return False, "not asked: the answers are random"
    attacked = attacked_model(model)
    gradients = _gradients(attacked, images, labels)
    if gradients is None:
        return True, "there is no gradient to predict how the margin moves"
    stream = generator(case.seed, "check", "directions", device=case.device)
    random = torch.rand(3, *images.shape, generator=stream, device=images.device) - 0.5
    foretold, seen = [], []
    with torch.no_grad():
        for direction in (gradients[0].sign(), *random.sign()):
            moved = [log_odds(answer(attacked, images + side * STEP * direction), labels) for side in (1, -1)]
            seen.append((moved[0] - moved[1]) / 2)
            foretold.append(STEP * (gradients[0] * direction).flatten(1).sum(1))
    changes, errors = torch.cat(seen), torch.cat(seen) - torch.cat(foretold)
    if changes.square().sum() == 0:
        return True, "the margin does not change at all within 1/255 of the images: the answers are rounded"
    # Each image counts the same, however steep the model is there.
    size = torch.cat(seen).view(len(seen), -1).square().sum(0).clamp_min(torch.finfo(changes.dtype).tiny)
    told = 1 - (errors.view(len(seen), -1).square().sum(0) / size).clamp_max(1).mean().item()
    detail = f"the gradient predicts {told:.0%} of what the margin does over 1/255 (flagged below {EXPLAINED})"
    return not told >= EXPLAINED, detail


def random_outputs(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Noise in the forward, dropout left on."""
    with torch.no_grad():
        difference = (answer(model, images) - answer(model, images)).abs().max().item()
    if is_stochastic(model):
        return False, f"random by its own account (logits differ by {difference:.2g}): attacked in expectation"
    return difference != 0, f"two answers to the same images differ by {difference:.2g}"


def company(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Whether an answer depends on the other images of the batch: batch norm left in training mode."""
    if is_stochastic(model):
        return False, "not asked: the answers are random"
    half = max(len(images) // 2, 1)
    before = [buffer.clone() for buffer in model.buffers()]
    with torch.no_grad():
        together, alone = answer(model, images)[:half], answer(model, images[:half])
    changed = any(not torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    difference = ((together - alone).abs().max() / together.abs().max().clamp_min(1e-12)).item()
    detail = f"logits differ by {difference:.1e} (relative) between a batch and half of it"
    return changed or not difference < 1e-3, detail + ("; a buffer changed while it answered" if changed else "")


def not_a_number(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Logits that are no finite numbers, on the images and on plain ones."""
    stream = generator(case.seed, "check", "noise", device=case.device)
    noise = torch.rand(images.shape, generator=stream, device=images.device)
    shown = {"the images": images, "noise": noise, "black": torch.zeros_like(images), "white": torch.ones_like(images)}
    with torch.no_grad():
        bad = {name: _share(~answer(model, each).isfinite().all(1)) for name, each in shown.items()}
    named = ", ".join(f"{share:.1%} of {name}" for name, share in bad.items() if share)
    return bool(named), f"logits are not finite for {named}" if named else "all logits are finite"


def saturated_logits(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Logits so far apart that a softmax of them is 0 and 1, and its gradient nothing."""
    with torch.no_grad():
        best = answer(model, images).topk(2, dim=1).values
    gap = (best[:, 0] - best[:, 1]).median().item()
    return not gap < UNDERFLOW, f"median gap between the two largest logits: {gap:.3g} (flagged from {UNDERFLOW:.0f})"


def probabilities(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Answers that are probabilities already: a cross-entropy would take their softmax once more."""
    with torch.no_grad():
        answers = answer(model, images)
    total = (answers.sum(1) - 1).abs().max().item()
    found = bool((answers >= 0).all()) and total < 1e-3
    return found, "answers lie in [0, 1] and sum to 1: give logits" if found else "answers are no probabilities"


def input_scale(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Whether the model does better on inputs of another scale: [0, 255], [−1, 1], normalised once more, or less.

    On more images than are given: a second normalisation shows in the few that are wrong.
    """
    images = as_images(case.split.images[:MANY].to(case.device))
    labels = case.split.labels[:MANY].to(case.device)
    mean, spread = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    scales = {
        "in [0, 255]": images * 255,
        "in [−1, 1]": images * 2 - 1,
        "normalised by mean and deviation": (images - mean) / spread,
        TWICE: images * spread + mean,
    }
    with torch.no_grad():
        logits_of = {name: answer(model, each) for name, each in ({"plain": images} | scales).items()}
    right = {name: _share(logits.argmax(1) == labels) for name, logits in logits_of.items()}
    surprise = {name: nn.functional.cross_entropy(logits, labels).item() for name, logits in logits_of.items()}
    best = max(scales, key=lambda name: right[name])
    if _at_chance((logits_of["plain"].argmax(1) == labels).sum().item(), len(labels), logits_of["plain"].shape[1]):
        return False, "not asked: clean accuracy is at chance"
    if right[TWICE] >= right["plain"] - AS_ACCURATE and surprise[TWICE] < LESS_SURPRISED * surprise["plain"]:
        seen = f"the cross-entropy is {surprise['plain']:.2f} on [0, 1], but {surprise[TWICE]:.2f} on inputs {TWICE}"
        return True, seen + ": the model may normalise twice"
    if right[best] > right["plain"] + BETTER_SCALE:
        return True, f"{right['plain']:.1%} right on [0, 1], but {right[best]:.1%} on inputs {best}: wrap the model so"
    return False, f"{right['plain']:.1%} right on [0, 1], at most {right[best]:.1%} on other scales"


def robust_at_half(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """At ε = 0.5 every image can be made grey: who is right then was not attacked well."""
    images, labels = _affordable(model, images, labels)
    stream = generator(case.seed, "check", "half", device=case.device)
    adversarial = pgd(_attacked(case, model), images, labels, eps=0.5, step_size=0.05, steps=50, generator=stream)
    right = _share(predictions(model, adversarial) == labels)
    return (
        right > 0.01,
        f"{right:.1%} right under PGD at ε = 0.5, where every image can be made grey (flagged above 1 %)",
    )


def single_step_beats_iterative(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """One step of ε that gets further than twenty small ones."""
    images, labels = _affordable(model, images, labels)
    budget, attacked = case.budgets["pgd"], _attacked(case, model)
    stream = generator(case.seed, "check", "single step", device=case.device)
    iterated = pgd(attacked, images, labels, **(budget | {"steps": 20}), generator=stream)
    single = _share(predictions(model, fgsm(attacked, images, labels, eps=budget["eps"])) == labels)
    iterative = _share(predictions(model, iterated) == labels)
    detail = f"at the same ε, {single:.1%} right under one step and {iterative:.1%} under twenty"
    return single < iterative - TOLERANCE, detail


def gradient_free_beats_white_box(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Random search (Square) that gets further than APGD-T at the same ε: the gradients lead nowhere."""
    if is_stochastic(model):
        return False, "not asked: the answers are random (`adaptive` searches at random, in expectation)"
    images, labels, attacked = images[:FEW], labels[:FEW], _attacked(case, model)
    eps = case.budgets["pgd"]["eps"]
    stream = generator(case.seed, "check", "gradient-free", device=case.device)
    climbed = apgd_t(attacked, images, labels, eps=eps, steps=40, targets=3, generator=stream)
    searched = square(attacked, images, labels, eps=eps, n_queries=QUERIES, generator=stream)
    seeing, blind = (_share(predictions(model, found) == labels) for found in (climbed, searched))
    detail = f"at the same ε, {blind:.1%} right under {QUERIES} random tries and {seeing:.1%} under APGD-T"
    return blind < seeing - FURTHER, detail + f" (flagged {100 * FURTHER:.0f} points below)"


def at_chance(case: Case, model: nn.Module, images: Images, labels: Labels) -> Seen:
    """Clean accuracy no better than guessing: labels shifted or shuffled, classes in another order, wrong weights."""
    images, labels = _affordable(model, images, labels)
    classes = answer(model, images[:1]).shape[1] - may_reject(model)
    right = (predictions(model, images) == labels).sum().item()
    detail = f"{right / len(labels):.1%} of {len(labels)} clean images are right; "
    detail += f"guessing among {classes} classes gives {1 / classes:.1%}"
    if not _at_chance(right, len(labels), classes):
        return False, detail
    return True, f"clean accuracy is at chance: {detail}. Are labels, order of the classes and weights the right ones?"


def _at_chance(right: float, count: int, classes: int) -> bool:
    """Whether guessing gets at least so many right with a probability above `LUCK`. A perfect model never guesses."""
    return right < count and float(binom.sf(right - 1, count, 1 / classes)) > LUCK


def _attacked(case: Case, model: nn.Module) -> nn.Module:
    """What is attacked of a model of this case, at the scale at which the judge attacks it."""
    scale = next(
        (case.scales[name] for name, each in case.models.items() if each is model and name in case.scales), 1.0
    )
    return attacked_model(model, scale)


PROBES: dict[str, Probe] = {
    "clean accuracy at chance": at_chance,
    "vanishing gradients": vanishing_gradients,
    "untrue gradients": untrue_gradients,
    "random outputs": random_outputs,
    "answers depend on the batch": company,
    "not a number": not_a_number,
    "saturated logits": saturated_logits,
    "probabilities for logits": probabilities,
    "inputs of another scale": input_scale,
    "robust at ε = 0.5": robust_at_half,
    "single step beats iterative": single_step_beats_iterative,
    "gradient-free beats white-box": gradient_free_beats_white_box,
}


def _affordable(model: nn.Module, images: Images, labels: Labels) -> tuple[Images, Labels]:
    return (images[:FEW_RANDOM], labels[:FEW_RANDOM]) if is_stochastic(model) else (images, labels)


def _gradients(model: nn.Module, images: Images, labels: Labels) -> tuple[Tensor, Tensor] | None:
    """Of the margin and of the cross-entropy, at the images; None where the graph does not lead there."""
    point = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = answer(model, point)
        if not logits.requires_grad:
            return None
        losses = log_odds(logits, labels).sum(), nn.functional.cross_entropy(logits, labels, reduction="sum")
        found = [torch.autograd.grad(loss, point, retain_graph=True, allow_unused=True)[0] for loss in losses]
    if found[0] is None or found[1] is None:
        return None
    return found[0].nan_to_num(), found[1].nan_to_num()


def _share(condition: Tensor) -> float:
    return condition.float().mean().item()
