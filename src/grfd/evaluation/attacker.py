"""The attacker: what is differentiated, in expectation over randomness, at what scale of the logits and at what cost.

Every question that the judge asks a model goes through `answer`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS
from grfd.attacks.checked_model import check_logits
from grfd.defenses import is_stochastic
from grfd.errors import UserError
from grfd.models.own import described
from grfd.types import Features, Images, Labels, Logits

VOTES = 11
"""How often a random defense is asked; the majority is its answer, so one lucky draw fools nobody."""

EXPECTATION_SAMPLES = 16
"""Draws of a random defense in each gradient of an adaptive attack."""


Answer = TypeVar("Answer")

FULL_MEMORY = "DefaultCPUAllocator"
"""In PyTorch's message where a CPU's memory is full."""

OUTSIDE = 1e-5
"""By how much an attack's output may lie outside the ball or the box: float32 rounds there."""


class Attempt(NamedTuple):
    """One attack as the judge runs it: its name, keywords and random stream, and how the model is scaled for it."""

    name: str
    settings: dict[str, Any]
    generator: torch.Generator
    scale: float = 1.0
    """What the model's logits are multiplied by (`grfd.evaluation.scale`)."""


def answer(model: nn.Module, images: Images) -> Logits:
    """The model's logits. It is shown a copy, so that a model which changes its input changes no image of ours.

    Raises `UserError`, one line, for whatever the model raises and for an answer that is no logits.
    """
    logits = asked(lambda: model(images.clone()), f"the model, for images {tuple(images.shape)},")
    check_logits(logits, len(images))
    return logits


def asked(ask: Callable[[], Answer], who: str) -> Answer:
    """What a model's own code gives. Raises `UserError`, one line, for whatever it raises.

    Only Ctrl-C and full memory go through.
    """
    try:
        return ask()
    except (KeyboardInterrupt, UserError, torch.OutOfMemoryError, MemoryError):
        raise
    except BaseException as error:  # a user's own code may raise anything, SystemExit too
        if FULL_MEMORY in str(error):
            raise
        raise UserError(f"{who} raised {described(error)}") from error


def residual_of(defense: nn.Module, images: Images) -> Features:
    """x_r of a defense that classifies it, from a copy of the images."""
    return asked(lambda: defense.residual(images.clone()), "residual()")  # type: ignore[operator]


def seen_of(defense: nn.Module, images: Images) -> Images:
    """What a defense shows its classifier of some images; the images themselves where it says nothing."""
    if not hasattr(defense, "seen"):
        return images
    return asked(lambda: defense.seen(images.clone()), "seen()")  # type: ignore[operator]


class Scaled(nn.Module):
    """A model whose logits are multiplied by a positive number: the same answers, another cross-entropy."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model = model
        self.factor = factor

    def forward(self, images: Images) -> Logits:
        logits = answer(self.model, images)
        # half precision ends at 65,504
        return self.factor * logits.to(torch.promote_types(logits.dtype, torch.float32))


class Expected(nn.Module):
    """log E[softmax] of a random model over `samples` draws in one batch: EOT for any attack.

    The draws are averaged as probabilities (SmoothAdv; Salman et al. 2019, arXiv:1906.04584).
    """

    def __init__(self, model: nn.Module, samples: int) -> None:
        super().__init__()
        self.model = model
        self.samples = samples

    def forward(self, images: Images) -> Logits:
        draws = answer(self.model, images.repeat(self.samples, 1, 1, 1)).log_softmax(1).unflatten(0, (self.samples, -1))
        return draws.logsumexp(0)


class Counted(nn.Module):
    """A model that counts the images it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.shown = 0

    def forward(self, images: Images) -> Logits:
        self.shown += len(images)
        return answer(self.model, images)


class Excused(nn.Module):
    """A detector as it is attacked at images of one class: logits of the classes, where rejection counts as that class.

    So an attack of any kind succeeds where the image is wrong *and* accepted.
    """

    def __init__(self, detector: nn.Module, rejection: int, label: int) -> None:
        super().__init__()
        self.detector = detector
        self.rejection = rejection
        self.label = label

    def forward(self, images: Images) -> Logits:
        logits = answer(self.detector, images)
        before, own, behind = logits[:, : self.rejection].tensor_split((self.label, self.label + 1), dim=1)
        return torch.cat([before, own.maximum(logits[:, self.rejection :]), behind], 1)


def may_reject(model: nn.Module) -> bool:
    return hasattr(model, "rejection")


def attacked_model(defense: nn.Module, scale: float = 1.0) -> nn.Module:
    """What an attacker who knows the whole defense differentiates: its surrogate, in expectation if it is random.

    `scale`: what the logits are multiplied by (`grfd.evaluation.scale`).
    """
    model = surrogate_of(defense)
    model = model if scale == 1.0 else Scaled(model, scale)
    return Expected(model, EXPECTATION_SAMPLES) if is_stochastic(defense) else model


def surrogate_of(defense: nn.Module) -> nn.Module:
    """What a defense says is to be differentiated in its place, for BPDA; itself where it says nothing."""
    if not hasattr(defense, "surrogate"):
        return defense
    return asked(defense.surrogate, "surrogate()").eval()  # type: ignore[arg-type]


def stand_ins_of(defense: nn.Module) -> dict[str, nn.Module]:
    """Other networks through which `adaptive` tries to attack a defense, by name."""
    if not hasattr(defense, "stand_ins"):
        return {}
    networks = asked(defense.stand_ins, "stand_ins()")  # type: ignore[arg-type]
    return {name: network.eval() for name, network in networks.items()}


def without_randomness(defense: nn.Module) -> nn.Module:
    """The defense of the `whitebox` protocol: z = μ."""
    if is_stochastic(defense) and hasattr(defense, "deterministic"):
        return asked(defense.deterministic, "deterministic()").eval()  # type: ignore[arg-type]
    return defense


def attack(model: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> tuple[Images, float]:
    """Adversarial images, and the number of images that the model was shown for each example.

    Raises `UserError` where the attack's output is not finite, or outside ball or box: nothing else is ever judged.
    """
    counted = Counted(model).eval()
    function = ALL_ATTACKS[attempt.name].function
    adversarial = function(counted, images, labels, **attempt.settings, generator=attempt.generator)
    check_output(adversarial, images, attempt)
    return adversarial, counted.shown / max(len(images), 1)


def check_output(adversarial: Images, images: Images, attempt: Attempt) -> None:
    """Raises `UserError` where adversarial images have another shape, are not finite, or leave ball or box."""
    if adversarial.shape != images.shape:
        raise UserError(f"attack {attempt.name} returned {tuple(adversarial.shape)}: expected {tuple(images.shape)}")
    if adversarial.numel() == 0:
        return
    low, high = attempt.settings.get("bounds", (0.0, 1.0))
    allowed = {"the box": max(low - float(adversarial.min()), float(adversarial.max()) - high)}
    norm, eps = threat_of(attempt), attempt.settings.get("eps", 1.0)
    if norm != "pixels":
        allowed[f"the {norm} ball of ε = {eps:g}"] = float(lengths(adversarial - images, norm).max()) - eps
    for where, excess in allowed.items():
        if not excess <= OUTSIDE * max(1.0, eps):  # a NaN is no such number either
            raise UserError(f"attack {attempt.name} returned an image outside {where} (by {excess:.3g}): not judged")


def threat_of(attempt: Attempt) -> str:
    """What this attack's ε bounds: linf, l2, or pixels (nothing)."""
    return attempt.settings.get("norm", ALL_ATTACKS[attempt.name].threat)


def lengths(change: Images, norm: str) -> Tensor:
    """Of each perturbation: its Euclidean length for "l2", else the largest change of a pixel."""
    flat = change.flatten(1)
    return torch.linalg.vector_norm(flat, dim=1) if norm == "l2" else flat.abs().amax(1)


def votes_of(model: nn.Module) -> int:
    """How often a random defense is asked: as often as it says, else `VOTES` times."""
    return int(getattr(model, "votes", VOTES))


@torch.no_grad()
def predictions(model: nn.Module, images: Images) -> Tensor:
    """Predicted classes; the majority of its votes for a random model. Not-a-number counts as no class: −1."""
    if not is_stochastic(model):
        return _answer(answer(model, images))
    answers = torch.stack([_answer(answer(model, images)) for _ in range(votes_of(model))])
    return answers.mode(0).values


def predictions_under_attack(model: nn.Module, images: Images, labels: Labels) -> Tensor:
    """Predicted classes of attacked images; a rejected one counts as held, so its label stands for it."""
    predicted = predictions(model, images)
    if not may_reject(model):
        return predicted
    return labels.where(predicted.eq(int(model.rejection)), predicted)  # type: ignore[arg-type]


def _answer(logits: Logits) -> Tensor:
    return logits.argmax(1).where(~logits.isnan().any(1), -1)
