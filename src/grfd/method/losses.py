"""The losses of the paper, one function for each equation. Each returns one value per example.

Equation numbers are those of Li et al. 2025. `objective` weights the losses, and the training loop takes the mean.
Where the paper is silent, a docstring says which choice was made, and `docs/decisions.md` says why.
RSM: the Robust Supervisory Model, here `classifier`. CURE: Curvature Regularisation.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from grfd.attacks.losses import log_odds
from grfd.seeds import normal_like
from grfd.types import Features, Images, Labels, Latents, Logits, PerExample

_Classifier = Callable[[Features], Logits]
Differentiated = Literal["margin", "cross_entropy"]


def reconstruction_loss(
    reconstructed: Features, images: Images, *, over: Literal["mean", "sum"] = "mean"
) -> PerExample:
    """L_rc of eq. 2: the squared error of G(x), its mean over pixels or its sum. The paper does not say which."""
    squares = (reconstructed - images).square().flatten(1)
    return squares.mean(1) if over == "mean" else squares.sum(1)


def kl_divergence(mean: Latents, log_variance: Latents) -> PerExample:
    """L_kl of eq. 2, the Kullback–Leibler divergence: ½ Σ_i (μ_i² + σ_i² − log σ_i² − 1), over d latent dimensions."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)


def classification_loss(logits: Logits, labels: Labels) -> PerExample:
    """Cross-entropy: L_rf of eq. 2 on f_ψ(z), and L_cl of eq. 6 on f_φ(x_r)."""
    return F.cross_entropy(logits, labels, reduction="none")


_DIFFERENTIATED: dict[str, Callable[[Logits, Labels], PerExample]] = {
    "margin": log_odds,
    "cross_entropy": classification_loss,
}
"""`Config.gradient_of` → the loss that eq. 5 differentiates. Configurations call the log-odds m "margin".

The cross-entropy (CE) is log(1 + eᵐ), so ∇CE = sigmoid(m)·∇m. The two gradients have the same direction, and the cosine
between two of them is the same for both losses. But ∇CE underflows to zero once an example is classified with high
confidence, and ∇m does not.
"""


def input_gradients(
    classifier: _Classifier, robust: Features, perturbation: Features, labels: Labels, *, of: Differentiated = "margin"
) -> tuple[Logits, Tensor, Tensor]:
    """The logits at x_r, and ∇l at x_r and at x_r + v (each `[batch, pixels]`), from one pass over both points.

    Both gradients keep their graph, because the RSM is trained by differentiating them with respect to the weights.
    Batch norm sees x_r and x_r + v as one batch, so its running statistics are updated once.
    """
    both = torch.cat([robust, robust + perturbation])
    if not both.requires_grad:
        both.requires_grad_()
    logits = classifier(both)
    # in float32, because a log-sum-exp of bfloat16 logits loses the direction of the gradient
    values = _DIFFERENTIATED[of](logits.float() if logits.dtype is torch.bfloat16 else logits, labels.repeat(2))
    (gradients,) = torch.autograd.grad(values.sum(), both, create_graph=True)
    at_robust, at_perturbed = gradients.flatten(1).chunk(2)
    return logits[: len(labels)], at_robust, at_perturbed


def gradient_similarity_loss(gradients: Tensor, perturbed_gradients: Tensor) -> PerExample:
    """L_rb of eq. 5: minus the cosine between ∇l(f(x_r), y) and ∇l(f(x_r + v), y), in [−1, 1]."""
    return -F.cosine_similarity(gradients, perturbed_gradients, dim=1)


def gradient_difference_loss(gradients: Tensor, perturbed_gradients: Tensor, *, step: float) -> PerExample:
    """L_r of eq. 4: ‖∇l(x_r + h·z) − ∇l(x_r)‖² / h², which the paper tried before eq. 5; h is `step`."""
    return (perturbed_gradients - gradients).square().sum(1) / step**2


def gaussian_perturbation(robust: Features, *, scale: float) -> Features:
    """v of eq. 5 and of line 10 of algorithm 1: drawn from N(0, σ²I), with σ = `scale` in pixels of [0, 1]."""
    return scale * normal_like(robust)


def sign_gradient_perturbation(
    classifier: _Classifier, robust: Features, labels: Labels, *, scale: float, of: Differentiated = "margin"
) -> Features:
    """The direction of CURE (Moosavi-Dezfooli et al. 2019, arXiv:1811.09716): `scale` · sign(∇l) / ‖sign(∇l)‖."""
    point = robust.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(_DIFFERENTIATED[of](classifier(point), labels).sum(), point)
    direction = gradient.sign().flatten(1)
    return scale * F.normalize(direction, dim=1).view_as(robust)
