"""The objective of stage I: Loss_all of eq. 6, and the schedule of its weight α.

LVCVAE: Latent Variable Constrained Variational Auto-Encoder. RSM: Robust Supervisory Model. FRM: Feature Robustness
Metric.
"""

import torch
from torch import Tensor, nn

from grfd.config import Config
from grfd.method.losses import (
    classification_loss,
    gaussian_perturbation,
    gradient_difference_loss,
    gradient_similarity_loss,
    input_gradients,
    kl_divergence,
    reconstruction_loss,
    sign_gradient_perturbation,
)
from grfd.method.lvcvae import LVCVAE, divided, sample
from grfd.training.loop import Terms
from grfd.types import Features, Images, Labels, PerExample


def alpha_at(progress: float, alpha: tuple[float, float, float]) -> float:
    """α in each third of stage I: 10, 5 and 1 in the paper. `progress` is the share of finished epochs, in [0, 1)."""
    return alpha[min(int(progress * 3 + 1e-9), 2)]


def loss_all(terms: dict[str, PerExample], config: Config, alpha: float) -> PerExample:
    """Loss_all of eq. 6: α·L_rc + β·L_kl + ε·L_rf + γ·L_cl + δ·L_rb. A term that was not computed is left out."""
    weights = {"rc": alpha, "kl": config.beta, "rf": config.epsilon, "cl": config.gamma, "rb": config.delta}
    return sum((weights[name] * values for name, values in terms.items()), torch.zeros_like(terms["rc"]))


class _ReverseGradient(torch.autograd.Function):
    """The identity, with the sign of its gradient reversed (Ganin & Lempitsky 2015, arXiv:1409.7495)."""

    @staticmethod
    def forward(ctx: object, features: Tensor) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class StageOne(nn.Module):
    """The objective of stage I, over LVCVAE and RSM together: lines 3 to 11 of algorithm 1."""

    def __init__(self, generator: LVCVAE, rsm: nn.Module, config: Config) -> None:
        super().__init__()
        self.generator = generator
        self.rsm = rsm
        self.config = config

    def train(self, mode: bool = True) -> "StageOne":
        super().train(mode)
        if self.config.batch_norm == "frozen":
            for module in self.rsm.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        config, generator = self.config, self.generator
        mean, log_variance = generator.encode(images)
        latents = sample(mean, log_variance)
        reconstructed = generator.decode(latents)
        _, robust = divided(images, reconstructed, config.robust_part)
        divergence = kl_divergence(mean, log_variance)
        if config.kl == "per_dimension":
            divergence = divergence / (images.shape[1] * config.latent)
        terms = {
            "rc": reconstruction_loss(reconstructed, images, over=config.reconstruction),
            "kl": divergence,
            "rf": classification_loss(generator.rectify(latents), labels),
            **self.feature_robustness_metric(robust, labels),
        }
        return {"loss": loss_all(terms, config, alpha_at(progress, config.alpha)), **terms}

    def feature_robustness_metric(self, robust: Features, labels: Labels) -> dict[str, PerExample]:
        """FRM (section 3.3): L_cl and L_rb of x_r. Terms with weight 0 are not computed."""
        config = self.config
        if config.rsm_gradient == "detached":
            robust = robust.detach()
        if config.game == "sign_flipped":
            robust = _ReverseGradient.apply(robust)
        if not config.delta:
            return {"cl": classification_loss(self.rsm(robust), labels)} if config.gamma else {}
        logits, gradients, perturbed = input_gradients(
            self.rsm, robust, self.perturbation(robust, labels), labels, of=config.gradient_of
        )
        if config.similarity == "cosine":
            robustness = gradient_similarity_loss(gradients, perturbed)
        else:
            robustness = gradient_difference_loss(gradients, perturbed, step=config.sigma)
        return {"cl": classification_loss(logits, labels), "rb": robustness}

    def perturbation(self, robust: Features, labels: Labels) -> Features:
        """v of eq. 5."""
        config = self.config
        if config.perturbation == "gaussian":
            return gaussian_perturbation(robust, scale=config.sigma)
        return sign_gradient_perturbation(self.rsm, robust, labels, scale=config.sigma, of=config.gradient_of)
