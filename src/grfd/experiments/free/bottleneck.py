"""Does the bottleneck of G hide weaknesses? Attacks that do not rely on the gradient through it.

F receives G(x). If G had useless gradients, the attacks of `adaptive` would fail for that reason alone. So this part
attacks around G: backward through the identity (BPDA), through the latent variables, and by answers alone.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from grfd import runs
from grfd.attacks import hopskipjump, pgd, square
from grfd.attacks.losses import lead
from grfd.defenses.grfd import GRFD
from grfd.evaluation.attacker import predictions
from grfd.evaluation.crafting import LabelledImages
from grfd.evaluation.spread import mean_of_shares_text
from grfd.progress import progress
from grfd.report.sheets import Sheet, markdown
from grfd.seeds import generator
from grfd.types import Images, Labels, Latents, Logits

BOTTLENECK_FILE = "bottleneck.json"
"""In the folder of the judged models: model → attack → whether each image is still right."""
_EPS = {1: 20 / 255, 3: 4 / 255}
"""Channels → ε of AutoAttack in Table 1."""
_QUERIES = 5_000
_LATENT_STEPS, _PIXEL_STEPS = 60, 200


class AroundGenerator(nn.Module):
    """F(G(x)), differentiated as F at G(x): the backward pass goes through the identity in place of G."""

    def __init__(self, defense: GRFD) -> None:
        super().__init__()
        self.defense = defense

    def forward(self, images: Images) -> Logits:
        with torch.no_grad():
            seen = self.defense.seen(images)
        logits: Logits = self.defense.target(images + (seen - images).detach())
        return logits


def around_generator(defense: GRFD, examples: LabelledImages, eps: float, stream: torch.Generator) -> Images:
    """PGD of 100 steps on `AroundGenerator`; each example keeps its best iterate."""
    model, (images, labels, _) = AroundGenerator(defense), examples
    return pgd(model, images, labels, eps=eps, step_size=eps / 5, steps=100, generator=stream)


def through_latents(defense: GRFD, examples: LabelledImages, eps: float, stream: torch.Generator) -> Images:
    """First the nearest misclassified latent variables, then the image in the ball whose μ comes nearest to them.

    The first search leaves the pixels, so that it needs no gradient of the encoder; the second needs no gradient of F.
    """
    wanted = _misclassified_latents(defense, examples)
    images, labels, _ = examples
    moved = (images + eps * (2 * torch.rand(images.shape, generator=stream) - 1)).clamp(0, 1)
    best, result = lead_of(defense, images, labels), images.clone()
    for _ in range(_PIXEL_STEPS):
        moved = moved.detach().requires_grad_()
        mean, _ = defense.generator.encode(moved)
        (slope,) = torch.autograd.grad((mean - wanted).square().sum(), moved)
        moved = (moved - eps / 10 * slope.sign()).detach()
        moved = torch.max(torch.min(moved, images + eps), images - eps).clamp(0, 1)
        found = lead_of(defense, moved, labels)
        better = found > best
        best, result = torch.where(better, found, best), torch.where(better[:, None, None, None], moved, result)
    return result


def _misclassified_latents(defense: GRFD, examples: LabelledImages) -> Latents:
    """From μ along the steepest ascent of the lead in latent space, until the wrong class leads clearly."""
    with torch.no_grad():
        start, _ = defense.generator.encode(examples.images)
    step = 0.05 * start.flatten(1).norm(dim=1).mean()
    latents = start.clone()
    for _ in range(_LATENT_STEPS):
        latents = latents.detach().requires_grad_()
        leads = lead(defense.target(defense.generator.decode(latents)), examples.labels)
        (slope,) = torch.autograd.grad(leads.sum(), latents)
        going = (leads < 2).float()[:, None]
        latents = latents.detach() + going * step * slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return latents.detach()


@torch.no_grad()
def lead_of(defense: nn.Module, images: Images, labels: Labels) -> Tensor:
    """By how much the best wrong class leads the right one."""
    return lead(defense(images), labels)


def by_random_search(defense: GRFD, examples: LabelledImages, eps: float, stream: torch.Generator) -> Images:
    """Square: it sees the logits."""
    return square(defense, examples.images, examples.labels, eps=eps, n_queries=_QUERIES, generator=stream)


def by_decisions(defense: GRFD, examples: LabelledImages, eps: float, stream: torch.Generator) -> Images:
    """HopSkipJump in L∞: it sees the classes only."""
    return hopskipjump(
        defense, examples.images, examples.labels, eps=eps, n_queries=_QUERIES, norm="linf", generator=stream
    )


AROUND: dict[str, tuple[str, Callable[[GRFD, LabelledImages, float, torch.Generator], Images]]] = {
    "identity": ("PGD, backward through the identity in place of G (BPDA)", around_generator),
    "latents": ("through the latent variables: first z, then the pixels", through_latents),
    "square": (f"Square, {_QUERIES:,} queries", by_random_search),
    "hopskipjump": (f"HopSkipJump, {_QUERIES:,} decisions", by_decisions),
}
"""Name → what it is, and the attack."""


def attack_bottleneck(defenses: dict[str, GRFD], examples: LabelledImages, folder: Path) -> None:
    """Attacks each defense around its generator. Writes which images stay right, attack by attack, and continues."""
    eps, found = _EPS[examples.images.shape[1]], _found(folder)
    todo = [(model, name) for model in defenses for name in AROUND if name not in found.get(model, {})]
    with progress("bottleneck", len(todo)) as advance:
        for model, name in todo:
            made = AROUND[name][1](defenses[model], examples, eps, generator(0, "bottleneck", name))
            right = predictions(defenses[model], made) == examples.labels
            found.setdefault(model, {})[name] = right.int().tolist()
            runs.write_json(folder / BOTTLENECK_FILE, {"eps": eps, "right": found})
            advance(1, f"{model}: {name}")


def is_attacked(folder: Path, models: Sequence[str]) -> bool:
    """Whether all of these attacks were made on all of these models."""
    found = _found(folder)
    return all(AROUND.keys() <= found.get(model, {}).keys() for model in models)


def _found(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Model → attack → whether each image stays right."""
    file = folder / BOTTLENECK_FILE
    right: dict[str, dict[str, list[int]]] = json.loads(file.read_text())["right"] if file.exists() else {}
    return right


def bottleneck_part(folder: Path, end_to_end: dict[str, np.ndarray]) -> list[str]:
    """The table, if it was measured. `end_to_end`: model → whether each image is right under the attacks of the table.

    Its last line is about both together: were the attacks around G to find much more, the gradients through G would be
    of little use.
    """
    known = {model: found for model, found in _found(folder).items()
             if model in end_to_end and AROUND.keys() <= found.keys()}  # fmt: skip
    if not known:
        return []
    count = min(each for model, found in known.items() for each in [*map(len, found.values()), len(end_to_end[model])])
    right = {model: {name: np.array(each[:count], dtype=bool) for name, each in found.items()}
             for model, found in known.items()}  # fmt: skip
    lines = [[title, *(_text([found[name]]) for found in right.values())] for name, (title, _) in AROUND.items()]
    usual = {model: end_to_end[model][:count] for model in right}
    lines += [
        ["end to end, as above", *(_text([each]) for each in usual.values())],
        ["all of these", *(_text([usual[model], *found.values()]) for model, found in right.items())],
    ]
    eps = json.loads((folder / BOTTLENECK_FILE).read_text())["eps"]
    text = (
        f"**Does the bottleneck mask gradients?** Attacks that go around G, ε = {255 * eps:g}/255, on the "
        f"first {count:,} test images of the first seed. The number is the share of images that stay right, with its "
        "95 % interval. Attacks end to end have ε of Table 1, which for FGSM is larger."
    )
    return [text, markdown(Sheet(["attack", *right], lines))]


def _text(columns: Sequence[np.ndarray]) -> str:
    """The share that is right under all."""
    right = np.logical_and.reduce(list(columns))
    return mean_of_shares_text([float(right.mean())], len(right))
