"""A Bayesian neural network by variational inference (Carbone et al. 2020, arXiv:2002.04359; Bortolussi et al. 2025).

Each weight of a convolution or a linear layer has a normal posterior distribution of its own (mean field) and the prior
N(0, 1). Biases and normalisation layers have single values. Training minimises the cross-entropy of a random draw plus
the Kullback–Leibler divergence from the prior, divided by the number of training images. The answer is the mean softmax
over draws from the posterior.

As in the authors' code (ginevracoal/robustBNNs): the prior, and Adam with the learning rate 0.01 for few epochs. What
differs: the network is that of the run instead of one of 512 units, its inference is ours in place of Pyro's, and the
divergence has a weight (`Recipe.divergence`), because with weight 1 and few images the posterior stays at the prior.
Hamiltonian Monte Carlo, the other inference of the paper, is not here.
Adaptive attack: in expectation over draws from the posterior (EOT, expectation over transformation).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from grfd.defenses import recipes
from grfd.runs import load_weights
from grfd.schema import Count, Deviation, Rate, Settings, Weight
from grfd.training.classification import train_under, training_split
from grfd.training.job import Job
from grfd.training.loop import Terms
from grfd.types import Images, Labels, Logits

NAME = "bayesian"
TITLE = "Bayesian network"
NARROW_TITLE = "Bayesian\nnetwork"
FILES = (f"{NAME}.safetensors",)
LITERATURE = "networks by Hamiltonian Monte Carlo are highly susceptible to attacks (arXiv:2404.19640)."
GREY: dict[str, Any] = {"epochs": 10}
COLOUR: dict[str, Any] = {"epochs": 30}

_DRAWS = 16
"""Draws of the weights in one pass. The rows of a batch are divided among them, so that a batch which repeats its
images, as attacks in expectation do, sees as many draws."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of the Bayesian network. Defaults: 10 epochs for grey images, 30 for colour images."""

    deviation: Deviation = 0.02
    """Standard deviation of each weight at the start of training."""
    divergence: Weight = 0.1
    """Weight of the divergence from the prior. 1 is variational inference without a temperature."""
    votes: Count = 20
    """Draws whose softmax is averaged in an answer."""
    epochs: Count | None = None
    """Epochs of training."""
    learning_rate: Rate = 3e-3
    """Learning rate of AdamW, which decays to 0 along a cosine. There is no weight decay: the prior takes its place."""


class Posterior(nn.Module):
    """A network with a normal distribution for each weight of two or more dimensions. Its answers are random."""

    stochastic = True
    averages_probabilities = True

    def __init__(self, network: nn.Module, deviation: float, votes: int) -> None:
        super().__init__()
        self.network = network
        self.votes = votes
        self.random = [name for name, weight in network.named_parameters() if weight.ndim > 1]
        # softplus(ρ) is the standard deviation
        start = torch.tensor(deviation).expm1().log()
        weights = dict(network.named_parameters())
        self.rho = nn.ParameterList(nn.Parameter(start.expand_as(weights[name]).clone()) for name in self.random)

    def deviations(self) -> dict[str, Tensor]:
        """The standard deviation of each random weight, by the name of its tensor."""
        return {name: F.softplus(rho) for name, rho in zip(self.random, self.rho, strict=True)}

    def drawn(self) -> dict[str, Tensor]:
        """One draw of the random weights, differentiable with respect to means and deviations."""
        means = dict(self.network.named_parameters())
        # not through `seeds.drawn`, which shares draws along the axis of the batch: weights have none
        return {name: means[name] + each * torch.randn_like(each) for name, each in self.deviations().items()}

    def divergence(self) -> Tensor:
        """KL(posterior ‖ N(0, 1)), summed over all random weights: Σ ½(μ² + σ² − 1) − log σ."""
        means = dict(self.network.named_parameters())
        terms = [
            (0.5 * (means[name].square() + each.square() - 1) - each.log()).sum()
            for name, each in self.deviations().items()
        ]
        return torch.stack(terms).sum()

    def deterministic(self) -> nn.Module:
        """The network with the mean of each weight."""
        return self.network

    def forward(self, images: Images) -> Logits:
        parts = images.tensor_split(min(_DRAWS, max(len(images), 1)))
        return torch.cat([functional_call(self.network, self.drawn(), part) for part in parts])


class Variational(nn.Module):
    """The negative evidence lower bound of one image: cross-entropy of a draw plus its share of the divergence."""

    def __init__(self, posterior: Posterior, images: int, weight: float) -> None:
        super().__init__()
        self.posterior = posterior
        self.images = images
        self.weight = weight

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        logits = functional_call(self.posterior.network, self.posterior.drawn(), images)
        natural = F.cross_entropy(logits, labels, reduction="none")
        divergence = (self.posterior.divergence() / self.images).expand_as(natural)
        return {"loss": natural + self.weight * divergence, "natural": natural, "divergence": divergence}


def _fresh(job: Job, recipe: Recipe) -> Posterior:
    return Posterior(job.architecture(), recipe.deviation, recipe.votes)


def fit(job: Job, recipe: Recipe) -> None:
    """Trains means and deviations, and writes bayesian.safetensors."""
    images = len(training_split(job))

    def objective(posterior: nn.Module) -> nn.Module:
        assert isinstance(posterior, Posterior)
        return Variational(posterior, images, recipe.divergence)

    optimisation = recipes.optimisation_of(recipe, weight_decay=0.0)
    train_under(job, NAME, objective, optimisation, start=lambda: _fresh(job, recipe))


def load(job: Job) -> nn.Module:
    """The posterior, in eval mode."""
    posterior = _fresh(job, recipes.recall(job.run, NAME, Recipe))
    load_weights(posterior, job.run.file(f"{NAME}.safetensors"))
    return posterior.eval()
