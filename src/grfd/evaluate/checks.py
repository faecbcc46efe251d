"""Gradient-masking checks: what must look right before a robust accuracy is believed (design: protocols).

Sources: Athalye et al. 2018 (arXiv:1802.00420), Carlini et al. 2019 (arXiv:1902.06705), Croce & Hein 2020
(arXiv:2003.01690). Each check names what it saw. State lives in its arguments alone: no model's result can leak into
the next one's.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from grfd.attacks import fgsm, pgd
from grfd.data.record import as_images
from grfd.defenses import is_stochastic
from grfd.disentangle.losses import margin
from grfd.evaluate import records
from grfd.evaluate.attacker import attacked_model, predictions
from grfd.evaluate.judge import CONTROL, Case
from grfd.evaluate.protocols import EXTRA
from grfd.evaluate.records import Record
from grfd.progress import progress
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

EXAMPLES = 200
TOLERANCE = 0.002
"""Two tenths of a point, as in AutoAttack's own check; on few examples one of them weighs more than that."""
UNDERFLOW = 88.0
"""exp(−88) is the smallest normal float32: beyond it a softmax is saturated whatever is done."""


@dataclass(frozen=True)
class Check:
    """What one check saw on one model."""

    model: str
    name: str
    flagged: bool
    detail: str


def run_checks(case: Case) -> list[Check]:
    """All checks, on the first images of the split and on what is recorded."""
    images = as_images(case.split.images[:EXAMPLES].to(case.device))
    labels = case.split.labels[:EXAMPLES].to(case.device)
    found = []
    judged = {name: model for name, model in case.models.items() if name != CONTROL}
    with progress("masking checks", len(judged) * len(ON_MODEL)) as advance:
        for name, model in judged.items():
            for check, look in ON_MODEL.items():
                with seeded(case.seed, "check", name, check):
                    flagged, detail = look(case, model, images, labels)
                found.append(Check(name, check, flagged, detail))
                advance(1, f"{name}: {check}")
    return found + [look for name in judged for look in on_records(case.folder, name)]


def as_rows(checks: list[Check]) -> list[dict[str, object]]:
    return [asdict(check) for check in checks]


def _vanishing_gradients(case: Case, model: nn.Module, images: Images, labels: Labels) -> tuple[bool, str]:
    point = images.clone().requires_grad_()
    with torch.enable_grad():
        logits = attacked_model(model)(point)
        if not logits.requires_grad:
            return True, "the logits have no gradient with respect to the images (a forward under no_grad, or detached)"
        (of_margin,) = torch.autograd.grad(margin(logits, labels).sum(), point, retain_graph=True)
        (of_cross_entropy,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), point)
    none = _share(of_margin.flatten(1).norm(dim=1) == 0)
    vanished = _share(of_cross_entropy.flatten(1).norm(dim=1) < 1e-12)
    detail = f"{none:.1%} of the images have a margin gradient of exactly 0; {vanished:.1%} a cross-entropy gradient "
    return none > 0.01, detail + "below 1e-12 (our attacks do not use its scale)"


def _random_outputs(case: Case, model: nn.Module, images: Images, labels: Labels) -> tuple[bool, str]:
    with torch.no_grad():
        difference = (model(images) - model(images)).abs().max().item()
    if is_stochastic(model):
        return False, f"random by its own account (logits differ by {difference:.2g}): attacked in expectation"
    return difference > 0, f"two answers to the same images differ by {difference:.2g}"


def _saturated_logits(case: Case, model: nn.Module, images: Images, labels: Labels) -> tuple[bool, str]:
    with torch.no_grad():
        best = model(images).topk(2, dim=1).values
    gap = (best[:, 0] - best[:, 1]).median().item()
    return not gap < UNDERFLOW, f"median gap between the two largest logits: {gap:.3g} (flagged from {UNDERFLOW:.0f})"


def _falls_at_half(case: Case, model: nn.Module, images: Images, labels: Labels) -> tuple[bool, str]:
    stream = generator(case.seed, "check", "half", device=case.device)
    adversarial = pgd(attacked_model(model), images, labels, eps=0.5, step_size=0.05, steps=50, generator=stream)
    right = _share(predictions(model, adversarial) == labels)
    return (
        right > 0.01,
        f"{right:.1%} right under PGD at ε = 0.5, where every image can be made grey (flagged above 1 %)",
    )


def _single_step_beats_iterative(case: Case, model: nn.Module, images: Images, labels: Labels) -> tuple[bool, str]:
    budget, attacked = case.budgets["pgd"], attacked_model(model)
    stream = generator(case.seed, "check", "single step", device=case.device)
    iterated = pgd(attacked, images, labels, **(budget | {"steps": 20}), generator=stream)
    single = _share(predictions(model, fgsm(attacked, images, labels, eps=budget["eps"])) == labels)
    iterative = _share(predictions(model, iterated) == labels)
    detail = f"at the same ε, {single:.1%} right under one step and {iterative:.1%} under twenty"
    return single < iterative - TOLERANCE, detail


def _share(condition: torch.Tensor) -> float:
    return condition.float().mean().item()


Look = Callable[[Case, nn.Module, Images, Labels], tuple[bool, str]]

ON_MODEL: dict[str, Look] = {
    "vanishing gradients": _vanishing_gradients,
    "random outputs": _random_outputs,
    "saturated logits": _saturated_logits,
    "robust at ε = 0.5": _falls_at_half,
    "single step beats iterative": _single_step_beats_iterative,
}


def on_records(folder: Path, model: str) -> list[Check]:
    """Whether attackers who know less got further: transferred or gradient-free attacks against white-box ones."""
    mine = {key[1:]: record for key, record in records.stored(folder).items() if key[0] == model}
    found = []
    for attack in dict.fromkeys(attack for _, attack in mine):
        seeing, transferred, everything = (
            mine.get((protocol, attack)) for protocol in ("whitebox", "transfer", "adaptive")
        )
        if seeing and transferred:
            found.append(_compared(model, "transfer beats white-box", attack, [seeing], [transferred]))
        if seeing and everything and any(name == "square" for name, _ in EXTRA.get(attack, ())):
            known = [seeing, transferred] if transferred else [seeing]
            found.append(_compared(model, "gradient-free beats white-box", attack, known, [*known, everything]))
    return found


def _compared(model: str, name: str, attack: str, seeing: list[Record], blind: list[Record]) -> Check:
    shared = min(len(record) for record in [*seeing, *blind])
    left = [records.worst_case([r.rows(0, shared) for r in group]).mean() for group in (seeing, blind)]
    detail = f"{attack}: {left[1]:.1%} right under the weaker attacker, {left[0]:.1%} under the stronger"
    return Check(model, name, bool(left[1] < left[0] - TOLERANCE), detail)
