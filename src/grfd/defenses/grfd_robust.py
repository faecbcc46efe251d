"""GRFD, robust: the generator and the target model are trained together against attacks on the whole x ↦ F(x − G(x)).

This defense is ours and not the paper's, because GRFD as published does not withstand an end-to-end attack. G and F
learn from PGD (projected gradient descent) examples of the whole defense (Madry et al. 2018, arXiv:1706.06083). They
start fresh, or from the LVCVAE (Latent Variable Constrained Variational Auto-Encoder) and the RSM (Robust Supervisory
Model) of stage I. The terms of eq. 6 are kept and computed on these examples. Each idea is one weight of the objective,
and weight 0 leaves it out.
Adaptive attack: end to end, as for GRFD; every part has a useful gradient.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from grfd.attacks import pgd
from grfd.config import Config
from grfd.data.record import Data
from grfd.defenses import recipes
from grfd.defenses.grfd import GRFD, through
from grfd.defenses.trades import divergence
from grfd.method.losses import (
    classification_loss,
    gaussian_perturbation,
    gradient_similarity_loss,
    input_gradients,
    kl_divergence,
    reconstruction_loss,
)
from grfd.method.stages import build_generator, check_generator, load_generator, stage_one
from grfd.runs import load_weights
from grfd.schema import Count, Decay, Pixels, Rate, Settings, Steps, Weight
from grfd.training.classification import in_eval_mode, load_classifier, train_under
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Features, Images, Labels, PerExample

NAME = "grfd-robust"
TITLE = "GRFD, robust"
FILES = (f"{NAME}.safetensors",)
LITERATURE = ""

GREY: dict[str, Any] = {"eps": 0.14, "step_size": 0.07, "steps": 3, "epochs": 20}
COLOUR: dict[str, Any] = {"eps": 8 / 255, "step_size": 4 / 255, "steps": 3, "epochs": 30}


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of GRFD, robust. The defaults of eps, step_size, steps and epochs depend on the images.

    Grey images: 0.14, 0.07, 3 and 20. Colour images: 8/255, 4/255, 3 and 30.
    """

    eps: Pixels | None = None
    """Radius ε of the L∞ ball of the training examples, in pixels of [0, 1]."""
    step_size: Pixels | None = None
    """Step size of PGD, in pixels of [0, 1]."""
    steps: Steps | None = None
    """Number of steps of PGD."""
    epochs: Count | None = None
    """Epochs of the adversarial stage. Those of stage I are in the configuration."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""
    start: Literal["stage_one", "fresh"] = "fresh"
    """Initial weights of G and F: the LVCVAE and the RSM of stage I, or fresh ones, which did better at equal cost."""
    latent: Literal["mean", "sampled", "sampled_in_training"] = "mean"
    """z: its mean μ, or drawn from N(μ, σ²), either in training and deployment or only in training (per PGD step)."""
    adversarial: Weight = 1.0
    """Weight of the cross-entropy at x′."""
    natural: Weight = 0.0
    """Weight of the cross-entropy at x."""
    consistency: Weight = 0.0
    """Weight of KL(F(x − G(x)) ‖ F(x′ − G(x′))), β of TRADES. KL: Kullback–Leibler divergence."""
    reconstruction: Weight = 1.0
    """α: weight of L_rc, the mean squared error of G(x′) from x′."""
    divergence: Weight = 0.2
    """β: weight of L_kl per latent dimension."""
    rectification: Weight = 0.6
    """ε of eq. 6: weight of L_rf, the cross-entropy of f_ψ(z)."""
    robustness: Weight = 0.0
    """δ: weight of L_rb, the cosine of eq. 5 at x′ − G(x′)."""
    invariance: Weight = 0.0
    """Weight of ‖G(x′) − G(x)‖², averaged over pixels."""
    averaging: Decay = 0.0
    """Decay per step of a moving average of the weights, which is deployed. With 0, the last weights are deployed."""


class RobustTraining(nn.Module):
    """The weighted sum of the recipe's terms, one value per example. Expensive terms with weight 0 are not computed."""

    def __init__(self, defense: GRFD, recipe: Recipe, sigma: float) -> None:
        super().__init__()
        self.defense = defense
        self.recipe = recipe
        self.sigma = sigma
        self.inner: dict[str, Any] = {"eps": recipe.eps, "step_size": recipe.step_size, "steps": recipe.steps}

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        recipe = self.recipe
        with in_eval_mode(self.defense):
            adversarial = pgd(self.defense, images, labels, **self.inner, keep="last", active_set=False)
        terms: Terms = {}
        if recipe.natural or recipe.consistency or recipe.invariance:
            # as one batch, so that batch norm sees both and updates its running statistics once
            attacked, clean = through(self.defense, torch.cat([adversarial, images])).halves()
            terms["natural"] = F.cross_entropy(clean.logits, labels, reduction="none")
            terms["consistency"] = divergence(clean.logits, attacked.logits)
            terms["invariance"] = reconstruction_loss(attacked.reconstructed, clean.reconstructed)
        else:
            attacked = through(self.defense, adversarial)
        terms["adversarial"] = F.cross_entropy(attacked.logits, labels, reduction="none")
        terms["reconstruction"] = reconstruction_loss(attacked.reconstructed, adversarial)
        size = images.shape[1] * attacked.mean.shape[1]
        terms["divergence"] = kl_divergence(attacked.mean, attacked.log_variance) / size
        terms["rectification"] = classification_loss(self.defense.generator.rectify(attacked.latents), labels)
        if recipe.robustness:
            terms["robustness"] = self._robustness(attacked.robust, labels)
        total = sum(
            (getattr(recipe, name) * value for name, value in terms.items()), torch.zeros(len(images)).to(images)
        )
        return {"loss": total, **terms}

    def _robustness(self, robust: Features, labels: Labels) -> PerExample:
        """L_rb of eq. 5 for F at x′ − G(x′)."""
        noise = gaussian_perturbation(robust, scale=self.sigma)
        _, gradients, perturbed = input_gradients(self.defense.target, robust, noise, labels)
        return gradient_similarity_loss(gradients, perturbed)


def _build(job: Job, *, sampled: bool) -> GRFD:
    config = job.run.config
    return GRFD(build_generator(config, job.data), job.architecture(), sampled=sampled, kind=config.robust_part)


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for images that the LVCVAE does not take, and where it needs more memory than there is."""
    check_generator(config, data)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains stage I where the recipe starts from it, then the adversarial stage; writes grfd-robust.safetensors."""
    if recipe.start == "stage_one":
        stage_one(job)

    def start() -> nn.Module:
        defense = _build(job, sampled=recipe.latent != "mean")
        if recipe.start == "stage_one":
            defense.generator = load_generator(job.run, job.data)
            defense.target = load_classifier(job, "rsm")
        return defense

    def objective(defense: nn.Module) -> nn.Module:
        assert isinstance(defense, GRFD)
        return RobustTraining(defense, recipe, job.run.config.sigma)

    optimisation = recipes.optimisation_of(recipe)
    train_under(job, NAME, objective, optimisation, start=start, averaging=recipe.averaging)


def load(job: Job) -> GRFD:
    """The trained defense, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    defense = _build(job, sampled=recipe.latent == "sampled")
    load_weights(defense, job.run.file(f"{NAME}.safetensors"))
    return defense.eval()
