"""Probes of one model: properties of its answers and gradients that make a robust accuracy unbelievable.

A probe is a function (case, model, images, labels) → (whether it raises a flag, the measured numbers in words).
Sources: Athalye et al. 2018 (arXiv:1802.00420), Carlini et al. 2019 (arXiv:1902.06705), and `checks.py` of AutoAttack
(Croce & Hein 2020, arXiv:2003.01690). The latter looks at the first batch only, misses gradients that vanish without
being zero, and carries one model's result over to the next in a global variable.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from grfd.attacks import apgd_t, fgsm, pgd, square
from grfd.attacks.losses import log_odds
from grfd.attacks.pass_size import pass_limit
from grfd.defenses import is_stochastic
from grfd.evaluation.attacker import answer, attacked_model, predictions
from grfd.evaluation.case import Case, scale_for
from grfd.evaluation.findings import Finding, affordable, share_of
from grfd.evaluation.probes_of_jumps import (
    gradients_at_inference,
    logit_jumps,
    surrogate_alone,
    unfinished_optimisation,
)
from grfd.evaluation.probes_of_logits import at_chance, input_scale, not_a_number, probabilities, saturated_logits
from grfd.seeds import generator
from grfd.types import Images, Labels

Probe = Callable[[Case, nn.Module, Images, Labels], Finding]

TOLERANCE = 0.002
"""0.2 percentage points, as in AutoAttack's own check. Among few examples, a single one weighs more."""
STEP = 1 / 255
"""Step of the probe of the gradient, in pixels of [0, 1]."""
EXPLAINED = 0.5
"""The share of the changes of the log-odds that their gradient must predict over this step."""
FEW, QUERIES = 100, 300
"""Images and queries of the random search."""
FURTHER = 0.1
"""How much lower the accuracy under random search must be. Even a sound small network has a few images without any
gradient."""


def vanishing_gradients(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """Gradients that are exactly zero, or so small that a loss which is not scale-free underflows."""
    images, labels = affordable(model, images, labels)
    gradients = _gradients(attacked_model(model), images, labels)
    if gradients is None:
        return True, "the logits have no gradient with respect to the images (computed under no_grad, or detached)"
    of_log_odds, of_cross_entropy = (gradient.flatten(1).norm(dim=1) for gradient in gradients)
    none, vanished = share_of(of_log_odds == 0), share_of(of_cross_entropy < 1e-12)
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


def robust_at_half(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """At ε = 0.5 every image can be made uniformly grey. Correct predictions then show that the attack failed."""
    images, labels = affordable(model, images, labels)
    stream = generator(case.seed, "check", "half", device=case.device)
    adversarial = pgd(_attacked(case, model), images, labels, eps=0.5, step_size=0.05, steps=50, generator=stream)
    right = share_of(predictions(model, adversarial) == labels)
    return (
        right > 0.01,
        f"{right:.1%} right under PGD at ε = 0.5, where every image can be made grey (flagged above 1 %)",
    )


def single_step_beats_iterative(case: Case, model: nn.Module, images: Images, labels: Labels) -> Finding:
    """One step of size ε that finds more adversarial examples than twenty small steps."""
    images, labels = affordable(model, images, labels)
    budget, attacked = case.budgets["pgd"], _attacked(case, model)
    stream = generator(case.seed, "check", "single step", device=case.device)
    iterated = pgd(attacked, images, labels, **(budget | {"steps": 20}), generator=stream)
    single = share_of(predictions(model, fgsm(attacked, images, labels, eps=budget["eps"])) == labels)
    iterative = share_of(predictions(model, iterated) == labels)
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
    gradient, free = (share_of(predictions(model, each) == labels) for each in (ascended, searched))
    detail = f"at the same ε, {free:.1%} right under {QUERIES} random tries and {gradient:.1%} under APGD-T"
    return free < gradient - FURTHER, detail + f" (flagged {100 * FURTHER:.0f} points below)"


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
