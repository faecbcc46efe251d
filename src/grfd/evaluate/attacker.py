"""The attacker: what is differentiated, in expectation over randomness, and at what cost."""

import torch
from torch import Tensor, nn

from grfd.attacks import ATTACKS, OTHER_ATTACKS
from grfd.defenses import is_stochastic
from grfd.types import Images, Labels, Logits

VOTES = 11
"""How often a random defense is asked; the majority is its answer, so one lucky draw fools nobody."""

EXPECTATION_SAMPLES = 16
"""Draws of a random defense in each gradient of an adaptive attack."""


class Expected(nn.Module):
    """log E[softmax] of a random model over `samples` draws in one batch: EOT for any attack.

    The draws are averaged as probabilities (SmoothAdv; Salman et al. 2019, arXiv:1906.04584).
    """

    def __init__(self, model: nn.Module, samples: int) -> None:
        super().__init__()
        self.model = model
        self.samples = samples

    def forward(self, images: Images) -> Logits:
        draws = self.model(images.repeat(self.samples, 1, 1, 1)).log_softmax(1).unflatten(0, (self.samples, -1))
        return draws.logsumexp(0)


class Counted(nn.Module):
    """A model that counts the images it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.shown = 0

    def forward(self, images: Images) -> Logits:
        self.shown += len(images)
        return self.model(images)


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
        logits = self.detector(images)
        own = logits[:, [self.label, self.rejection]].amax(1)
        classes = logits[:, : self.rejection]
        return classes.index_copy(1, torch.tensor([self.label], device=logits.device), own[:, None])


def may_reject(model: nn.Module) -> bool:
    return hasattr(model, "rejection")


def attacked_model(defense: nn.Module) -> nn.Module:
    """What an attacker who knows the whole defense differentiates: its surrogate, in expectation if it is random."""
    model = surrogate_of(defense)
    return Expected(model, EXPECTATION_SAMPLES) if is_stochastic(defense) else model


def surrogate_of(defense: nn.Module) -> nn.Module:
    """What a defense says is to be differentiated in its place, for BPDA; itself where it says nothing."""
    return defense.surrogate() if hasattr(defense, "surrogate") else defense  # type: ignore[operator]


def without_randomness(defense: nn.Module) -> nn.Module:
    """The defense of the `whitebox` protocol: z = μ."""
    if is_stochastic(defense) and hasattr(defense, "deterministic"):
        return defense.deterministic()  # type: ignore[operator]
    return defense


def attack(
    name: str, model: nn.Module, images: Images, labels: Labels, settings: dict, generator: torch.Generator
) -> tuple[Images, float]:
    """Adversarial images, and the images that the model was shown an example."""
    counted = Counted(model).eval()
    adversarial = (ATTACKS | OTHER_ATTACKS)[name](counted, images, labels, **settings, generator=generator)
    return adversarial, counted.shown / max(len(images), 1)


def votes_of(model: nn.Module) -> int:
    """How often a random defense is asked: as often as it says, else `VOTES` times."""
    return int(getattr(model, "votes", VOTES))


@torch.no_grad()
def predictions(model: nn.Module, images: Images) -> Tensor:
    """Predicted classes; the majority of its votes for a random model. Not-a-number counts as no class: −1."""
    if not is_stochastic(model):
        return _answer(model(images))
    answers = torch.stack([_answer(model(images)) for _ in range(votes_of(model))])
    return answers.mode(0).values


def held(model: nn.Module, images: Images, labels: Labels) -> Tensor:
    """Predicted classes of attacked images; a rejected one counts as held, so its label stands for it."""
    found = predictions(model, images)
    if not may_reject(model):
        return found
    return labels.where(found.eq(int(model.rejection)), found)  # type: ignore[arg-type]


def _answer(logits: Logits) -> Tensor:
    return logits.argmax(1).where(~logits.isnan().any(1), -1)
