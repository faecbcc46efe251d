"""Probes of one model: properties of its answers and gradients that make a robust accuracy unbelievable.

A probe is a function (case, model, images, labels) → (whether it raises a flag, the measured numbers in words).
Sources: Athalye et al. 2018 (arXiv:1802.00420), Carlini et al. 2019 (arXiv:1902.06705), and `checks.py` of AutoAttack
(Croce & Hein 2020, arXiv:2003.01690). The latter looks at the first batch only, misses gradients that vanish without
being zero, and carries one model's result over to the next in a global variable.
"""

from collections.abc import Callable

import scipy
import torch
from torch import Tensor, nn

from grfd.attacks import apgd_t, fgsm, pgd, square
from grfd.attacks.losses import log_odds
from grfd.attacks.pass_size import pass_limit
from grfd.data.record import as_images
from grfd.defenses import is_stochastic
from grfd.evaluation import scale
from grfd.evaluation.attacker import answer, attacked_model, may_reject, predictions
from grfd.evaluation.case import Case, scale_for
from grfd.evaluation.probes_of_jumps import (
    gradients_at_inference,
    logit_jumps,
    surrogate_alone,
    unfinished_optimisation,
)
from grfd.seeds import generator
from grfd.types import Images, Labels, Logits

Finding = tuple[bool, str]
"""Whether the probe raises a flag, and what it measured."""
Probe = Callable[[Case, nn.Module, Images, Labels], Finding]

TOLERANCE = 0.002
"""0.2 percentage points, as in AutoAttack's own check. Among few examples, a single one weighs more."""
UNDERFLOW = 88.0
"""exp(−88) is about the smallest normal float32. Beyond this gap a softmax is saturated."""
SATURATED = 0.1
"""The share of images whose softmax may underflow at the scale of the attack."""
STEP = 1 / 255
"""Step of the probe of the gradient, in pixels of [0, 1]."""
EXPLAINED = 0.5
"""The share of the changes of the log-odds that their gradient must predict over this step."""
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
MANY = 1_000
"""Images for the probe of the inputs' scale."""
FEW, QUERIES = 100, 300
"""Images and queries of the random search."""
FEW_RANDOM = 20
"""Images for probes of a random model. Each gradient needs many draws, and a draw may be a whole purification."""
FURTHER = 0.1
"""How much lower the accuracy under random search must be. Even a sound small network has a few images without any
gradient."""
LUCK = 0.01
"""A clean accuracy is at chance if guessing reaches it with a larger probability."""
AS_ACCURATE = 0.01
"""Accuracies that differ by at most this much count as equal."""


def vanishing_gradients(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Gradients that are exactly zero, or so small that a loss which is not scale-free underflows."""
    images, labels = _affordable(model, images, labels)
    gradients = _gradients(attacked_model(model), images, labels)
    if gradients is None:
        return True, "the logits have no gradient with respect to the images (computed under no_grad, or detached)"
    of_log_odds, of_cross_entropy = (gradient.flatten(1).norm(dim=1) for gradient in gradients)
    none, vanished = _share(of_log_odds == 0), _share(of_cross_entropy < 1e-12)
    detail = f"the gradient of the log-odds is exactly 0 on {none:.1%} of the images (flagged above 1 %); that of the "
    detail += f"cross-entropy is below 1e-12 on {vanished:.1%} (our attacks do not use its scale)"
    return none > 0.01, detail


def untrue_gradients(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Whether the log-odds change as their gradient predicts, along its sign and along random signs."""
    if is_stochastic(model):
        return False, "not tested: the answers are random"
    attacked = attacked_model(model)
    gradients = _gradients(attacked, images, labels)
    if gradients is None:
        return True, "there is no gradient to predict the log-odds"
    stream = generator(case.seed, "check", "directions", device=case.device)
    random = torch.rand(3, *images.shape, generator=stream, device=images.device) - 0.5
    predicted, measured = [], []
    with torch.no_grad():
        for direction in (gradients[0].sign(), *random.sign()):
            ends = [log_odds(answer(attacked, images + side * STEP * direction), labels) for side in (1, -1)]
            measured.append((ends[0] - ends[1]) / 2)
            predicted.append(STEP * (gradients[0] * direction).flatten(1).sum(1))
    changes, errors = torch.cat(measured), torch.cat(measured) - torch.cat(predicted)
    if changes.square().sum() == 0:
        return True, "the log-odds do not change at all within 1/255 of the images: the answers are rounded"
    # all images count alike, however steep the model is there
    size = changes.view(len(measured), -1).square().sum(0).clamp_min(torch.finfo(changes.dtype).tiny)
    share = 1 - (errors.view(len(measured), -1).square().sum(0) / size).clamp_max(1).mean().item()
    detail = f"the gradient predicts {share:.0%} of the changes of the log-odds over 1/255"
    return not share >= EXPLAINED, detail + f" (flagged below {EXPLAINED:.0%})"


def random_outputs(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Noise in the forward pass, for example dropout in training mode."""
    with torch.no_grad():
        difference = (answer(model, images) - answer(model, images)).abs().max().item()
    if is_stochastic(model):
        return False, f"declared as random (logits differ by {difference:.2g}): attacked in expectation"
    return difference != 0, f"two answers to the same images differ by {difference:.2g}"


def batch_dependence(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Whether an answer depends on the other images of the batch, for example by batch norm in training mode."""
    if is_stochastic(model):
        return False, "not tested: the answers are random"
    half = max(len(images) // 2, 1)
    before = [buffer.clone() for buffer in model.buffers()]
    with torch.no_grad():
        together, alone = answer(model, images)[:half], answer(model, images[:half])
    changed = any(not torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    difference = ((together - alone).abs().max() / together.abs().max().clamp_min(1e-12)).item()
    detail = f"logits differ by {difference:.1e} (relative) between a batch and half of it"
    return changed or not difference < 1e-3, detail + ("; a buffer changed during the forward pass" if changed else "")


def not_a_number(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Logits that are not finite, for the images, for noise, and for black and white images."""
    stream = generator(case.seed, "check", "noise", device=case.device)
    noise = torch.rand(images.shape, generator=stream, device=images.device)
    inputs = {"the images": images, "noise": noise, "black": torch.zeros_like(images), "white": torch.ones_like(images)}
    with torch.no_grad():
        bad = {name: _share(~answer(model, each).isfinite().all(1)) for name, each in inputs.items()}
    named = ", ".join(f"{share:.1%} of {name}" for name, share in bad.items() if share)
    return bool(named), f"logits are not finite for {named}" if named else "all logits are finite"


def saturated_logits(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Logits so far apart that their softmax is 0 or 1, with a gradient of 0, also at the scale of the attack.

    The judge multiplies all logits of a model by one factor, so logits that are merely large are no obstacle to it.
    They are one to an attack that climbs the cross-entropy as it is, and the detail says so.
    """
    with torch.no_grad():
        best = answer(model, images).double().topk(2, dim=1).values
    gaps = best[:, 0] - best[:, 1]
    gap, share = gaps.median().item(), _share(gaps * scale.scale_of(best) >= UNDERFLOW)
    detail = f"median gap between the two largest logits: {gap:.3g}"
    if not gap < UNDERFLOW:
        detail += " (attacks that climb the cross-entropy of these logits see no gradient; ours rescale them)"
    detail += f"; at the scale of the attack it is above {UNDERFLOW:.0f} on {share:.1%} (flagged above 10 %)"
    return not (share <= SATURATED and bool(gaps.isfinite().all())), detail


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


def _lowest_cross_entropy(logits: Logits, labels: Labels) -> float:
    """The lowest cross-entropy over factors on the logits, from 1/100 to 100 times the judge's."""
    factors = scale.scale_of(logits) * torch.logspace(-2, 2, 41, device=logits.device)
    return min(nn.functional.cross_entropy(factor * logits, labels).item() for factor in factors)


def robust_at_half(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """At ε = 0.5 every image can be made uniformly grey. Correct predictions then show that the attack failed."""
    images, labels = _affordable(model, images, labels)
    stream = generator(case.seed, "check", "half", device=case.device)
    adversarial = pgd(_attacked(case, model), images, labels, eps=0.5, step_size=0.05, steps=50, generator=stream)
    right = _share(predictions(model, adversarial) == labels)
    return (
        right > 0.01,
        f"{right:.1%} right under PGD at ε = 0.5, where every image can be made grey (flagged above 1 %)",
    )


def single_step_beats_iterative(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """One step of size ε that finds more adversarial examples than twenty small steps."""
    images, labels = _affordable(model, images, labels)
    budget, attacked = case.budgets["pgd"], _attacked(case, model)
    stream = generator(case.seed, "check", "single step", device=case.device)
    iterated = pgd(attacked, images, labels, **(budget | {"steps": 20}), generator=stream)
    single = _share(predictions(model, fgsm(attacked, images, labels, eps=budget["eps"])) == labels)
    iterative = _share(predictions(model, iterated) == labels)
    detail = f"at the same ε, {single:.1%} right under one step and {iterative:.1%} under twenty"
    return single < iterative - TOLERANCE, detail


def gradient_free_beats_white_box(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Random search (Square) that finds more than APGD-T at the same ε, so that gradients must be useless."""
    if is_stochastic(model):
        return False, "not tested: the answers are random (`adaptive` includes a random search, in expectation)"
    images, labels, attacked = images[:FEW], labels[:FEW], _attacked(case, model)
    eps = case.budgets["pgd"]["eps"]
    stream = generator(case.seed, "check", "gradient-free", device=case.device)
    ascended = apgd_t(attacked, images, labels, eps=eps, steps=40, targets=3, generator=stream)
    searched = square(attacked, images, labels, eps=eps, n_queries=QUERIES, generator=stream)
    gradient, free = (_share(predictions(model, each) == labels) for each in (ascended, searched))
    detail = f"at the same ε, {free:.1%} right under {QUERIES} random tries and {gradient:.1%} under APGD-T"
    return free < gradient - FURTHER, detail + f" (flagged {100 * FURTHER:.0f} points below)"


def at_chance(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Clean accuracy no better than guessing: wrong labels, another order of the classes, or wrong weights."""
    images, labels = _affordable(model, images, labels)
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


def _attacked(case: Case, model: nn.Module) -> nn.Module:
    """The model as the judge attacks it, at the same scale of the logits."""
    return attacked_model(model, scale_for(case, model))


PROBES: dict[str, Probe] = {
    "clean accuracy at chance": at_chance,
    "vanishing gradients": vanishing_gradients,
    "untrue gradients": untrue_gradients,
    "random outputs": random_outputs,
    "answers depend on the batch": batch_dependence,
    "not a number": not_a_number,
    "saturated logits": saturated_logits,
    "probabilities for logits": probabilities,
    "inputs of another scale": input_scale,
    "robust at ε = 0.5": robust_at_half,
    "single step beats iterative": single_step_beats_iterative,
    "gradient-free beats white-box": gradient_free_beats_white_box,
    "logit jumps": logit_jumps,
    "unfinished optimisation": unfinished_optimisation,
    "surrogate fooled, defense not": surrogate_alone,
    "gradients at inference": gradients_at_inference,
}


def _affordable(model: nn.Module, images: Images, labels: Labels) -> tuple[Images, Labels]:
    return (images[:FEW_RANDOM], labels[:FEW_RANDOM]) if is_stochastic(model) else (images, labels)


def _gradients(model: nn.Module, images: Images, labels: Labels) -> tuple[Tensor, Tensor] | None:
    """Gradients of the log-odds and of the cross-entropy with respect to the images; None if there are none."""
    limit = pass_limit() or len(images)
    parts = [_gradients_of_pass(model, *part) for part in zip(images.split(limit), labels.split(limit), strict=True)]
    if any(part is None for part in parts):
        return None
    of_log_odds, of_cross_entropy = zip(*(part for part in parts if part is not None), strict=True)
    return torch.cat(of_log_odds), torch.cat(of_cross_entropy)


def _gradients_of_pass(model: nn.Module, images: Images, labels: Labels) -> tuple[Tensor, Tensor] | None:
    point = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = answer(model, point)
        if not logits.requires_grad:
            return None
        losses = log_odds(logits, labels).sum(), nn.functional.cross_entropy(logits, labels, reduction="sum")
        gradients = [torch.autograd.grad(loss, point, retain_graph=True, allow_unused=True)[0] for loss in losses]
    if gradients[0] is None or gradients[1] is None:
        return None
    return gradients[0].nan_to_num(), gradients[1].nan_to_num()


def _share(condition: Tensor) -> float:
    return condition.float().mean().item()
