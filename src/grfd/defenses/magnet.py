"""MagNet (Meng & Chen 2017, arXiv:1705.09064): autoencoders reject what they reproduce badly, and reform the rest.

Autoencoders learn to remove noise from clean images. An image is rejected where the error of its reconstruction is
above a threshold, or where F answers differently for the image and its reconstruction (Jensen–Shannon divergence, JSD,
of the softmax at high temperature). Otherwise the answer is F of the reconstruction. Networks, noise, powers of the
error, temperatures and rates of false positives are those of the authors' code (Trevillie/MagNet): for grey images two
autoencoders and no JSD, for colour images one and JSD at the temperatures 10 and 40. What differs: AdamW in place of
Adam, a rate of learning that decays, and thresholds that are chosen on training images.
Adaptive attack: end to end; the example must be misclassified and accepted (Carlini & Wagner 2017, arXiv:1711.08478).
The logit of rejection is the largest logit plus the largest relative excess over a threshold.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor, nn

from grfd import processes
from grfd.config import Config
from grfd.data.record import Data, as_images
from grfd.defenses import recipes
from grfd.runs import load_weights, write_json, write_tensors
from grfd.schema import Count, Deviation, Rate, Settings
from grfd.seeds import normal_like, seeded
from grfd.training.classification import load_classifier, train_classifier, training_split
from grfd.training.job import Job
from grfd.training.loop import Terms, fit_objective
from grfd.types import Images, Labels, Logits, PerExample

NAME = "magnet"
TITLE = "MagNet"
FILES = (f"{NAME}.json", f"{NAME}.safetensors", "standard.safetensors")
LITERATURE = "broken by 99 % of the examples of an attack that knows or guesses its autoencoders (arXiv:1711.08478)."
GREY: dict[str, Any] = {"noise": 0.1, "temperatures": (), "false_positives": 0.001, "epochs": 100}
COLOUR: dict[str, Any] = {"noise": 0.025, "temperatures": (10.0, 40.0), "false_positives": 0.005, "epochs": 400}

_MAPS = 3
"""Feature maps of each layer."""
_IMAGES_AT_ONCE = 500
"""Number of training images that are scored in one pass."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of MagNet. The defaults of the settings that are None depend on the images.

    Grey images: noise 0.1, no temperatures, 0.1 % of false positives, 100 epochs. Colour images: 0.025, 10 and 40,
    0.5 %, 400 epochs.
    """

    noise: Deviation | None = None
    """Standard deviation of the noise that the autoencoders learn to remove, in pixels of [0, 1]."""
    temperatures: tuple[Deviation, ...] | None = None
    """Temperatures of the softmax at which answers are compared; a detector for each."""
    false_positives: Annotated[float, Interval(ge=0, lt=1)] | None = None
    """The share of clean training images that each detector rejects."""
    epochs: Count | None = None
    """Epochs of the autoencoders."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.Sigmoid()]


def fresh_autoencoders(channels: int) -> nn.ModuleList:
    """For grey images one with a layer of half the size, then one without; for colour images the latter alone."""
    plain = nn.Sequential(*_convolution(channels, _MAPS), *_convolution(_MAPS, _MAPS), *_convolution(_MAPS, channels))
    if channels > 1:
        return nn.ModuleList([plain])
    halved = [*_convolution(channels, _MAPS), nn.AvgPool2d(2), *_convolution(_MAPS, _MAPS), *_convolution(_MAPS, _MAPS)]
    restored = [nn.Upsample(scale_factor=2), *_convolution(_MAPS, _MAPS), *_convolution(_MAPS, channels)]
    return nn.ModuleList([nn.Sequential(*halved, *restored), plain])


class Autoencoding(nn.Module):
    """The mean squared errors of all autoencoders, from x + noise to x. They share no weight and nothing else."""

    def __init__(self, autoencoders: nn.ModuleList, noise: float) -> None:
        super().__init__()
        self.autoencoders = autoencoders
        self.noise = noise

    def forward(self, images: Images, labels: Labels, progress: float) -> Terms:
        noisy = (images + self.noise * normal_like(images)).clamp(0, 1)
        errors = [(each(noisy) - images).square().flatten(1).mean(1) for each in self.autoencoders]
        return {"loss": torch.stack(errors).sum(0)}


def jensen_shannon(first: Tensor, second: Tensor) -> PerExample:
    """JSD of two distributions per example, in nats: ½KL(p ‖ m) + ½KL(q ‖ m), m = (p + q)/2."""
    middle = (first + second) / 2
    divergences = [(each * (each.clamp(min=1e-12) / middle.clamp(min=1e-12)).log()).sum(1) for each in (first, second)]
    return (divergences[0] + divergences[1]) / 2


class MagNet(nn.Module):
    """Images → logits of the classes for the reformed image, followed by one for rejection."""

    def __init__(
        self, classifier: nn.Module, autoencoders: nn.ModuleList, temperatures: tuple[float, ...], classes: int
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.autoencoders = autoencoders
        self.temperatures = temperatures
        self.rejection = classes
        self.thresholds = nn.Buffer(torch.full((len(autoencoders) + len(temperatures),), torch.inf))

    def seen(self, images: Images) -> Images:
        """The reformed image."""
        return self.autoencoders[0](images)

    def scores(self, images: Images) -> Tensor:
        """The score of each detector, [batch, detector]: errors of the reconstructions, then divergences."""
        # the authors take the second power for the first of two autoencoders, and the first power for the last
        powers = [2.0] * (len(self.autoencoders) - 1) + [1.0]
        errors = [
            (images - each(images)).abs().pow(power).flatten(1).mean(1)
            for each, power in zip(self.autoencoders, powers, strict=True)
        ]
        if not self.temperatures:
            return torch.stack(errors, 1)
        plain, reformed = self.classifier(images), self.classifier(self.seen(images))
        compared = [jensen_shannon((plain / t).softmax(1), (reformed / t).softmax(1)) for t in self.temperatures]
        return torch.stack([*errors, *compared], 1)

    def forward(self, images: Images) -> Logits:
        logits = self.classifier(self.seen(images))
        excess = (self.scores(images) / self.thresholds.clamp(min=1e-12) - 1).amax(1)
        return torch.cat([logits, (logits.amax(1) + excess)[:, None]], 1)


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` for grey images whose sides are odd."""
    grey = data.train.images.shape[1] == 1
    recipes.require_multiples(NAME, data, 2 if grey else 1)


def _fresh(job: Job, recipe: Recipe) -> MagNet:
    assert recipe.temperatures is not None
    with seeded(job.run.config.seed, NAME, "weights"):
        autoencoders = fresh_autoencoders(job.data.train.images.shape[1])
    return MagNet(load_classifier(job, "standard"), autoencoders, recipe.temperatures, len(job.data.classes))


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model where it is missing, then the autoencoders, and chooses the thresholds."""
    train_classifier(job, "standard")
    if processes.of_main(lambda: job.run.has(f"{NAME}.json")):
        return
    if not job.run.has(f"{NAME}.safetensors"):
        _train(job, recipe)
    write_json(job.run.file(f"{NAME}.json"), {"thresholds": _chosen_thresholds(job, recipe)})
    processes.wait()


def _train(job: Job, recipe: Recipe) -> None:
    assert recipe.noise is not None
    autoencoders, split = _fresh(job, recipe).autoencoders, training_split(job)
    objective, optimisation = (
        Autoencoding(autoencoders, recipe.noise),
        recipes.optimisation_of(recipe, weight_decay=0.0),
    )
    fit_objective(job.run, NAME, objective, lambda epoch: (split.images, split.labels), optimisation)
    write_tensors(job.run.file(f"{NAME}.safetensors"), autoencoders.state_dict())


@torch.no_grad()
def _chosen_thresholds(job: Job, recipe: Recipe) -> list[float]:
    """Those that reject the recipe's share of the training images, each detector by itself."""
    assert recipe.false_positives is not None
    defense = _fresh(job, recipe)  # training may have moved the other to an accelerator
    load_weights(defense.autoencoders, job.run.file(f"{NAME}.safetensors"))
    parts = training_split(job).images.split(_IMAGES_AT_ONCE)
    scores = torch.cat([defense.eval().scores(as_images(part)) for part in parts])
    return scores.double().quantile(1 - recipe.false_positives, dim=0).tolist()


def load(job: Job) -> nn.Module:
    """The standard model behind detectors and reformer, in eval mode."""
    defense = _fresh(job, recipes.recall(job.run, NAME, Recipe))
    load_weights(defense.autoencoders, job.run.file(f"{NAME}.safetensors"))
    defense.thresholds.data = torch.tensor(json.loads(job.run.file(f"{NAME}.json").read_text())["thresholds"])
    return defense.eval()
