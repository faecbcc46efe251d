"""TRS, an ensemble whose members transfer badly to each other (Yang et al. 2021, arXiv:2104.00671).

TRS: Transferability Reduced Smooth ensemble. The members are trained together. To the cross-entropy of each, the
objective adds the absolute cosines of the input gradients of each pair of members, and the Euclidean norm of the input
gradients, which makes the members smooth. For half of a batch, that norm is taken where an ascent of six steps makes it
large.

From the authors' code (AI-secure/Transferability-Reduced-Smooth-Ensemble, train/Empirical/trainer.py) are three
members, the ascent, whose ε grows during training, and the weights: CE + scale·(coefficient·|cosine| + λ·norm). What
differs: AdamW with a cosine, and fewer epochs (scaled by us). The ensemble answers with the mean softmax of its
members. Adaptive attack: as a whole, end to end; each member is a stand-in besides, from which examples are
transferred.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.defenses import recipes
from grfd.runs import load_weights
from grfd.schema import Count, Pixels, Rate, Settings, Steps, Weight
from grfd.training.classification import in_eval_mode, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Images, Labels, Logits, PerExample

NAME = "trs"
TITLE = "TRS"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "CIFAR-10, PGD-50 at 0.01: a user of the authors' code measured 20.8 %, at 88.7 % clean (its issue 1)."
GREY: dict[str, Any] = {"scale": 5.0, "coefficient": 2.0, "smoothness": 2.0, "first_eps": 0.1, "last_eps": 0.2,
                        "epochs": 6}  # fmt: skip
COLOUR: dict[str, Any] = {"scale": 1.0, "coefficient": 40.0, "smoothness": 2.5, "first_eps": 0.01, "last_eps": 0.03,
                          "epochs": 30}  # fmt: skip


_BATCH = 128
"""The authors differentiate the mean loss of such a batch, so their gradients are shorter by this factor."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of TRS. The defaults of the settings that are None depend on the images.

    Grey images: scale 5, coefficient 2, smoothness 2, ε from 0.1 to 0.2, 6 epochs. Colour images: 1, 40, 2.5, 0.01 to
    0.03, 30.
    """

    members: Count = 3
    """Number of networks."""
    scale: Weight | None = None
    """Weight of both regularisers together."""
    coefficient: Weight | None = None
    """Weight of the absolute cosines of the members' input gradients."""
    smoothness: Weight | None = None
    """λ: weight of the norms of the members' input gradients."""
    first_eps: Pixels | None = None
    """ε of the ascent at the start of training, in pixels of [0, 1]."""
    last_eps: Pixels | None = None
    """ε of the ascent at the end of training. It grows linearly."""
    steps: Steps = 6
    """Steps of the ascent."""
    epochs: Count | None = None
    """Epochs of training."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""


class Ensemble(nn.Module):
    """Images → the logarithm of the mean softmax of the members."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def stand_ins(self) -> dict[str, nn.Module]:
        return {f"member {index}": member for index, member in enumerate(self.members, 1)}

    def forward(self, images: Images) -> Logits:
        answers = torch.stack([member(images).log_softmax(1) for member in self.members])
        return answers.logsumexp(0) - torch.tensor(float(len(self.members)), device=images.device).log()


def gradients_of_members(ensemble: Ensemble, images: Images, labels: Labels) -> tuple[list[Tensor], list[PerExample]]:
    """For each member the gradient of its cross-entropy with respect to the images [batch, pixels], and its values."""
    point = images if images.requires_grad else images.detach().requires_grad_()
    values = [F.cross_entropy(member(point), labels, reduction="none") for member in ensemble.members]
    gradients = [torch.autograd.grad(value.sum(), point, create_graph=True)[0].flatten(1) for value in values]
    return gradients, values


def alignment(gradients: list[Tensor]) -> PerExample:
    """The mean absolute cosine over all pairs of gradients, one value per example; 0 for a single member."""
    cosines = [F.cosine_similarity(first, second, dim=1).abs() for first, second in combinations(gradients, 2)]
    return torch.stack(cosines).mean(0) if cosines else torch.zeros_like(gradients[0][:, 0])


def gradient_norms(gradients: list[Tensor]) -> PerExample:
    """The Euclidean norms of the gradients, averaged over the members, one value per example."""
    # 1e-12, because the square root has no derivative at 0
    return torch.stack([(each.square().sum(1) + 1e-12).sqrt() for each in gradients]).mean(0)


def steepest_point(ensemble: Ensemble, images: Images, labels: Labels, eps: float, steps: int) -> Images:
    """The point in the ball where the members' input gradients are longest, by signed ascent from a random start."""
    lower, upper = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    point = (images + eps * (2 * torch.rand_like(images) - 1)).clamp(lower, upper)
    for _ in range(steps):
        point = point.detach().requires_grad_()
        gradients, _ = gradients_of_members(ensemble, point, labels)
        (direction,) = torch.autograd.grad(gradient_norms(gradients).sum(), point, allow_unused=True)
        if direction is None:  # a piecewise linear network has gradients that do not depend on the point
            return point.detach()
        point = (point + eps / 3 * direction.sign()).clamp(lower, upper)
    return point.detach()


class TransferReduced(nn.Module):
    """CE + scale·(coefficient·|cosine| + λ·norm), where CE is summed over the members; one value per example."""

    def __init__(self, ensemble: Ensemble, recipe: Recipe) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.recipe = recipe

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        recipe = self.recipe
        assert recipe.first_eps is not None and recipe.last_eps is not None and recipe.scale is not None
        assert recipe.coefficient is not None and recipe.smoothness is not None
        eps = recipe.first_eps + (recipe.last_eps - recipe.first_eps) * progress
        gradients, values = gradients_of_members(self.ensemble, images, labels)
        half = len(images) // 2  # the authors take the other half as it is
        with in_eval_mode(self.ensemble):
            moved = steepest_point(self.ensemble, images[half:], labels[half:], eps, recipe.steps)
        there, _ = gradients_of_members(self.ensemble, torch.cat([images[:half], moved]), labels)
        aligned, natural, norms = alignment(gradients), torch.stack(values).sum(0), gradient_norms(there) / _BATCH
        loss = natural + recipe.scale * (recipe.coefficient * aligned + recipe.smoothness * norms)
        return {"loss": loss, "natural": natural, "alignment": aligned, "norm": norms}


def _fresh(job: Job, recipe: Recipe) -> Ensemble:
    return Ensemble([job.architecture() for _ in range(recipe.members)])


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the members together, and writes trs.safetensors."""

    def objective(ensemble: nn.Module) -> nn.Module:
        assert isinstance(ensemble, Ensemble)
        return TransferReduced(ensemble, recipe)

    train_under(job, NAME, objective, recipes.optimisation_of(recipe), start=lambda: _fresh(job, recipe))


def load(job: Job) -> nn.Module:
    """The ensemble, in eval mode."""
    ensemble = _fresh(job, recipes.recall(job.run, NAME, Recipe))
    load_weights(ensemble, job.run.file(f"{NAME}.safetensors"))
    return ensemble.eval()
