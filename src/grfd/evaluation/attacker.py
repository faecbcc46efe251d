"""The attacker's view of a model: what it differentiates, how it handles randomness, and at what scale and cost.

Every forward pass of the judge goes through `answer`.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from grfd.attacks.checked_model import check_logits
from grfd.attacks.pass_size import is_counting, passes_of
from grfd.attacks.registry import entry_of
from grfd.defenses import averages_probabilities, is_stochastic
from grfd.errors import UserError
from grfd.models.own import described
from grfd.types import Features, Images, Labels, Logits

VOTES = 11
"""Forward passes of a random defense for each image. The majority counts, so that a single lucky draw does not."""

EXPECTATION_SAMPLES = 16
"""Draws of a random defense that are averaged in each gradient of an attack."""

Answer = TypeVar("Answer")

_NUMBERS_IN_AN_ANSWER = 2**22
"""Pixels times channels of the images that a model classifies at a time without a gradient: 27 photographs of 224×224
pixels, or 1,365 images of CIFAR-10."""

FULL_MEMORY = "DefaultCPUAllocator"
"""Part of PyTorch's message when the memory of the CPU is full."""

OUTSIDE = 1e-5
"""How far an attack's output may lie outside the ball or the box, because float32 rounds."""


class Attempt(NamedTuple):
    """One attack as the judge runs it: its name, keywords and random stream, and the scale of the model's logits."""

    name: str
    settings: dict[str, Any]
    generator: torch.Generator
    scale: float = 1.0
    """The factor by which the model's logits are multiplied (`grfd.evaluation.scale`)."""
    pass_images: int | None = None
    """How many images are differentiated at a time (`grfd.attacks.pass_size`)."""

    @property
    def norm(self) -> str:
        """The measure that this attack's ε bounds: "linf", "l2", "l1", or "pixels" (ε bounds nothing)."""
        return str(self.settings.get("norm", entry_of(self.name).threat))


def answer(model: nn.Module, images: Images) -> Logits:
    """The model's logits. The model receives a copy, so that it cannot change the judge's images in place.

    Raises `UserError` for any exception of the model, and for an answer that is not a tensor of logits.
    """
    most = max(1, _NUMBERS_IN_AN_ANSWER // max(images[:1].numel(), 1))
    if len(images) > most and not torch.is_grad_enabled() and not is_stochastic(model):
        return torch.cat([answer(model, part) for part in images.split(most)])
    logits = asked(lambda: model(images.clone()), f"the model, for images {tuple(images.shape)},")
    check_logits(logits, len(images))
    return logits


def asked(ask: Callable[[], Answer], who: str) -> Answer:
    """The result of a call into a model's own code. Raises `UserError` for any exception of that code.

    Only Ctrl-C and errors about full memory are passed on. `who` begins the message.
    """
    try:
        return ask()
    except (KeyboardInterrupt, UserError, torch.OutOfMemoryError, MemoryError):
        raise
    except BaseException as error:  # a user's own code may raise anything, even SystemExit
        if FULL_MEMORY in str(error):
            raise
        raise UserError(f"{who} raised {described(error)}") from error


def residual_of(defense: nn.Module, images: Images) -> Features:
    """The robust part x_r that the defense classifies, computed from a copy of the images."""
    return asked(lambda: defense.residual(images.clone()), "residual()")  # type: ignore[operator]


def seen_of(defense: nn.Module, images: Images) -> Images:
    """The input of the defense's classifier for some images. By default it is the images themselves."""
    if not hasattr(defense, "seen"):
        return images
    return asked(lambda: defense.seen(images.clone()), "seen()")  # type: ignore[operator]


class Scaled(nn.Module):
    """A model whose logits are multiplied by a positive number: the same predictions, another cross-entropy."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model = model
        self.factor = factor

    def forward(self, images: Images) -> Logits:
        logits = answer(self.model, images)
        # the largest number of half precision is 65,504
        return self.factor * logits.to(torch.promote_types(logits.dtype, torch.float32))


class Expected(nn.Module):
    """log E[softmax] of a random model over `samples` draws, computed in one batch.

    This is EOT (expectation over transformation) for any attack. Probabilities are averaged, not logits, as in
    SmoothAdv (Salman et al. 2019, arXiv:1906.04584).
    """

    def __init__(self, model: nn.Module, samples: int) -> None:
        super().__init__()
        self.model = model
        self.samples = samples

    def forward(self, images: Images) -> Logits:
        draws = answer(self.model, images.repeat(self.samples, 1, 1, 1)).log_softmax(1).unflatten(0, (self.samples, -1))
        return draws.logsumexp(0)


class Counted(nn.Module):
    """A model that counts the images that it classifies."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.count = 0
        self._lock = threading.Lock()  # row-parallel passes count at the same time

    def forward(self, images: Images) -> Logits:
        if is_counting():
            with self._lock:
                self.count += len(images)
        return answer(self.model, images)


class Excused(nn.Module):
    """A detector as it is attacked on images of one class: its logits, with rejection counted as that class.

    An attack therefore succeeds only if the image is classified wrongly *and* accepted.
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
    """Whether the model is a detector: it has a logit for "rejected"."""
    return hasattr(model, "rejection")


def attacked_model(defense: nn.Module, scale: float = 1.0) -> nn.Module:
    """The model that an attacker who knows the whole defense differentiates: its surrogate, in expectation if random.

    `scale`: the factor by which its logits are multiplied (`grfd.evaluation.scale`).
    """
    model = surrogate_of(defense)
    model = model if scale == 1.0 else Scaled(model, scale)
    return Expected(model, EXPECTATION_SAMPLES) if is_stochastic(defense) else model


def surrogate_of(defense: nn.Module) -> nn.Module:
    """The model that is differentiated in place of the defense (BPDA, backward pass differentiable approximation).

    It is the defense itself unless the defense has a `surrogate()`.
    """
    if not hasattr(defense, "surrogate"):
        return defense
    return asked(defense.surrogate, "surrogate()").eval()  # type: ignore[arg-type]


def stand_ins_of(defense: nn.Module) -> dict[str, nn.Module]:
    """Other networks, by name, on which the `adaptive` protocol also makes examples against this defense."""
    if not hasattr(defense, "stand_ins"):
        return {}
    networks = asked(defense.stand_ins, "stand_ins()")  # type: ignore[arg-type]
    return {name: network.eval() for name, network in networks.items()}


def without_randomness(defense: nn.Module) -> nn.Module:
    """The defense as the `whitebox` protocol attacks it, without its randomness (for GRFD: z = μ)."""
    if is_stochastic(defense) and hasattr(defense, "deterministic"):
        return asked(defense.deterministic, "deterministic()").eval()  # type: ignore[arg-type]
    return defense


def attack(model: nn.Module, images: Images, labels: Labels, attempt: Attempt) -> tuple[Images, float]:
    """Adversarial images, and the number of images that the model classified for each example.

    Raises `UserError` if an image is not finite, or outside the ball or the box. Such images are never judged.
    """
    counted = Counted(model).eval()
    function = entry_of(attempt.name).function
    with passes_of(attempt.pass_images):
        adversarial = function(counted, images, labels, **attempt.settings, generator=attempt.generator)
    check_output(adversarial, images, attempt)
    return adversarial, counted.count / max(len(images), 1)


def check_output(adversarial: Images, images: Images, attempt: Attempt) -> None:
    """Raises `UserError` if adversarial images have another shape, are not finite, or leave the ball or the box."""
    if adversarial.shape != images.shape:
        raise UserError(f"attack {attempt.name} returned {tuple(adversarial.shape)}: expected {tuple(images.shape)}")
    if adversarial.numel() == 0:
        return
    low, high = attempt.settings.get("bounds", (0.0, 1.0))
    allowed = {"the box": max(low - float(adversarial.min()), float(adversarial.max()) - high)}
    norm, eps = attempt.norm, attempt.settings.get("eps", 1.0)
    if norm != "pixels" and math.isfinite(eps):
        allowed[f"the {norm} ball of ε = {eps:g}"] = float(lengths(adversarial - images, norm).max()) - eps
    for where, excess in allowed.items():
        if not excess <= OUTSIDE * max(1.0, eps):  # written this way, NaN is refused as well
            raise UserError(f"attack {attempt.name} returned an image outside {where} (by {excess:.3g}): not judged")


def lengths(change: Images, norm: str) -> Tensor:
    """The size of each perturbation: its length in L2 or L1, otherwise its largest change of a pixel."""
    order = {"l2": 2, "l1": 1}.get(norm, math.inf)
    return torch.linalg.vector_norm(change.flatten(1), ord=order, dim=1)


def votes_of(model: nn.Module) -> int:
    """Forward passes of a random defense for each image: its own number if it has one, otherwise `VOTES`."""
    return int(getattr(model, "votes", VOTES))


@torch.no_grad()
def predictions(model: nn.Module, images: Images) -> Tensor:
    """Predicted classes. −1, which is no class, where a logit is NaN.

    A random model is judged by the majority of its answers, or by their mean softmax if it `averages_probabilities`.
    """
    if not is_stochastic(model):
        return _answer(answer(model, images))
    answers = (answer(model, images) for _ in range(votes_of(model)))
    if averages_probabilities(model):
        return _answer(torch.stack([logits.softmax(1) for logits in answers]).mean(0))
    return torch.stack([_answer(logits) for logits in answers]).mode(0).values


def predictions_under_attack(model: nn.Module, images: Images, labels: Labels) -> Tensor:
    """Predicted classes of attacked images. A rejected image counts as correct, so it is given its label."""
    predicted = predictions(model, images)
    if not may_reject(model):
        return predicted
    return labels.where(predicted.eq(int(model.rejection)), predicted)  # type: ignore[arg-type]


def _answer(logits: Logits) -> Tensor:
    return logits.argmax(1).where(~logits.isnan().any(1), -1)
