"""DiffPure-DDPM (small): noise is added to the image and a diffusion model removes it, before the standard model.

DDPM: denoising diffusion probabilistic model (Ho et al. 2020, arXiv:2006.11239). Nie et al. 2022 (arXiv:2205.07460) use
published models for ImageNet and CIFAR; here a small one (`diffusion`) is trained on the data of the run. The noise has
the strength of step t* of the diffusion, and only steps up to 1.3 t* are trained. The reverse process is strided. t* is
the largest of `Recipe.levels` at which enough clean images of a held-out part of the training data are classified
correctly.
Adaptive attack: PGD (projected gradient descent) in expectation over the noise, with the full gradient through a
surrogate that takes fewer reverse steps, each with gradient checkpointing; the examples are tried on the whole defense.
arXiv:2303.09051 shows that weaker attacks overrate the defense. The protocol `adaptive` also tries the gradient of the
identity (BPDA, Backward Pass Differentiable Approximation), and the surrogate with fixed noises (arXiv:2505.22839).

Needs `diffusers`: pip install "grfd[diffusion]".
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval, Len, MultipleOf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from grfd.config import Config
from grfd.data.record import Data, Split, as_images
from grfd.defenses import recipes
from grfd.defenses.diffusion import DIFFUSION_STEPS, NORM_GROUPS, Denoising, denoiser, diffused, noise_scheduler
from grfd.defenses.squeezers import Straight
from grfd.errors import UserError
from grfd.runs import Run, read_tensors, write_tensors
from grfd.schema import Count, Decay, Rate, Settings, Share
from grfd.seeds import seeded
from grfd.training.classification import load_classifier, train_classifier, training_split
from grfd.training.job import Job
from grfd.training.loop import fit_objective
from grfd.types import Images, Logits

NAME = "diffpure"
TITLE = "DiffPure-DDPM (small)"
NARROW_TITLE = "DiffPure-\nDDPM (small)"
FILES = (f"{NAME}.safetensors", "standard.safetensors")
LITERATURE = "about 24 % on CIFAR-10 with its randomness held fixed (arXiv:2505.22839)."
GREY: dict[str, Any] = {"widths": (32, 64, 64), "epochs": 5}
COLOUR: dict[str, Any] = {"widths": (64, 128, 128), "epochs": 100}

_BEYOND = 1.3
"""The DDPM is trained on the steps up to this multiple of t*."""
_IMAGES_AT_ONCE = 256
"""Images that pass through the U-Net together. Sixteen draws of 500 images at once would take tens of gigabytes."""
_HELD_OUT = 500
"""Number of training images, the last ones, on which t* is chosen. The DDPM is not trained on them."""

_Levels = Annotated[
    tuple[Annotated[int, Interval(ge=1, le=DIFFUSION_STEPS)], ...], Len(1, DIFFUSION_STEPS), "a list of whole numbers"
]
_ReverseSteps = Annotated[int, Interval(ge=1, le=DIFFUSION_STEPS)]
_Width = Annotated[int, Interval(ge=NORM_GROUPS, le=4096), MultipleOf(NORM_GROUPS)]
_Widths = Annotated[tuple[_Width, ...], Len(1, 8), "a list of one to eight whole numbers"]


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of DiffPure-DDPM (small). The defaults of widths and epochs depend on the images.

    Grey images: widths (32, 64, 64), 5 epochs. Colour images: widths (64, 128, 128), 100 epochs.
    """

    levels: _Levels = (150, 175, 200, 225, 250)
    """Candidates for t*: numbers of diffusion steps, out of 1,000."""
    clean: Share = 0.98
    """The clean accuracy that t* must keep. Where no level keeps it, the lowest level is taken."""
    reverse_steps: _ReverseSteps = 10
    """Number of steps in the reverse process of the deployed defense."""
    surrogate_steps: _ReverseSteps = 5
    """Number of steps in the reverse process of the surrogate, which attacks differentiate."""
    widths: _Widths | None = None
    """Channels of the U-Net at each of its levels."""
    average: Decay = 0.999
    """Decay per step of the moving average of the weights, after the first steps."""
    epochs: Count | None = None
    """Epochs of the DDPM."""
    learning_rate: Rate = 1e-3
    """Learning rate of AdamW, which decays to 0 along a cosine."""


class Purified(nn.Module):
    """x ↦ F(x̂), where x̂ is x with noise of strength t*, denoised by the reverse process; both are in [0, 1]."""

    stochastic = True

    def __init__(self, network: nn.Module, classifier: nn.Module, start: int, steps: int, surrogate_steps: int) -> None:
        super().__init__()
        self.network = network
        self.classifier = classifier
        self.start = start
        self.steps = steps
        self.surrogate_steps = surrogate_steps
        self.scheduler = noise_scheduler()
        self.scheduler.set_timesteps(timesteps=strided(start, steps))

    def surrogate(self) -> "Purified":
        """The defense with fewer steps, differentiable end to end, in the memory of one step of 256 images."""
        fewer = Purified(self.network, self.classifier, self.start, self.surrogate_steps, self.surrogate_steps)
        return fewer.train(self.training)

    def stand_ins(self) -> dict[str, nn.Module]:
        return {"bpda": PassedThrough(self), "fixed noises": FixedNoises(self.surrogate())}

    def seen(self, images: Images) -> Images:
        # steps are counted from 0, so t* steps of noise end at step t* − 1
        level = self.scheduler.alphas_cumprod[[self.start - 1]].to(images)
        noisy = diffused(2 * images - 1, torch.randn_like(images), level)
        for step in self.scheduler.timesteps.tolist():
            noisy = torch.cat([self._part_back(part, step) for part in noisy.split(_IMAGES_AT_ONCE)])
        return ((noisy + 1) / 2).clamp(0, 1)

    def forward(self, images: Images) -> Logits:
        return self.classifier(self.seen(images))

    def _part_back(self, noisy: Tensor, step: int) -> Tensor:
        if noisy.requires_grad:
            return checkpoint(self._back, noisy, step, use_reentrant=False)
        return self._back(noisy, step)

    def _back(self, noisy: Tensor, step: int) -> Tensor:
        """One reverse step: the mean of the DDPM, plus noise except in the last step."""
        return self.scheduler.step(self.network(noisy, step).sample, step, noisy).prev_sample


class PassedThrough(nn.Module):
    """The answers of the defense, with the gradient of the identity through the purification (BPDA)."""

    stochastic = True

    def __init__(self, defense: Purified) -> None:
        super().__init__()
        self.defense = defense

    def forward(self, images: Images) -> Logits:
        return self.defense.classifier(Straight.apply(images, self.defense.seen))


class FixedNoises(nn.Module):
    """Uses the same noises at every call, a different one at each index of the batch, so an attack sees one function.

    `stochastic` is true, because the noises of different indices differ: it is attacked in expectation over 16 of them.
    """

    stochastic = True

    def __init__(self, defense: nn.Module) -> None:
        super().__init__()
        self.defense = defense

    def forward(self, images: Images) -> Logits:
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed(0)
            return self.defense(images)


def strided(start: int, steps: int) -> list[int]:
    """At most `steps` different steps of the reverse process, evenly spaced from t* down to 0."""
    return sorted({max(round(start * (index + 1) / steps), 1) - 1 for index in range(steps)}, reverse=True)


def check(recipe: Recipe, data: Data, config: Config) -> None:
    """Raises `UserError` where diffusers is missing, images do not fit the U-Net, or there are too few of them."""
    noise_scheduler()
    assert recipe.widths is not None
    recipes.require_multiples(NAME, data, 2 ** (len(recipe.widths) - 1))
    images = min(len(data.train), config.train_examples or len(data.train))
    if images < 5:
        raise UserError(f"{NAME} chooses t* on a fifth of the training images: expected at least 5, got {images}")


def fit(job: Job, recipe: Recipe) -> None:
    """Trains the standard model and the DDPM, chooses t*, and writes both to diffpure.safetensors."""
    noise_scheduler()
    train_classifier(job, "standard")
    if job.run.has(f"{NAME}.safetensors"):
        return
    assert recipe.widths is not None
    split = training_split(job)
    training, held_out = _parted(split)
    channels = job.data.train.images.shape[1]
    with seeded(job.run.config.seed, NAME, "weights"):
        network = denoiser(channels, recipe.widths)
    averaged = denoiser(channels, recipe.widths)
    averaged.load_state_dict(network.state_dict())
    objective = Denoising(network, averaged, min(round(_BEYOND * max(recipe.levels)), DIFFUSION_STEPS), recipe.average)
    optimisation = recipes.optimisation_of(recipe)
    fit_objective(job.run, NAME, objective, lambda epoch: (training.images, training.labels), optimisation)
    classifier = load_classifier(job, "standard")
    start = _chosen(job.run, objective.averaged.eval(), classifier, held_out, recipe)
    weights = {f"network.{name}": value for name, value in objective.averaged.state_dict().items()}
    write_tensors(job.run.file(f"{NAME}.safetensors"), weights | {"start": torch.tensor(start)})


def _parted(split: Split) -> tuple[Split, Split]:
    """The images that the DDPM is trained on, and those on which t* is chosen, at most a fifth of all."""
    held_out = min(_HELD_OUT, len(split) // 5)
    return (
        Split(split.images[:-held_out], split.labels[:-held_out]),
        Split(split.images[-held_out:], split.labels[-held_out:]),
    )


@torch.no_grad()
def _chosen(run: Run, network: nn.Module, classifier: nn.Module, held_out: Split, recipe: Recipe) -> int:
    """The largest level that keeps the clean accuracy of the recipe, or the lowest level where none does."""
    device = next(network.parameters()).device
    images, labels = as_images(held_out.images.to(device)), held_out.labels.to(device)
    classifier = classifier.to(device)
    best = min(recipe.levels)
    for start in sorted(recipe.levels):
        defense = Purified(network, classifier, start, recipe.reverse_steps, recipe.surrogate_steps).eval()
        with seeded(run.config.seed, NAME, "sweep", start):
            right = (defense(images).argmax(1) == labels).float().mean().item()
        if right >= recipe.clean:
            best = start
    return best


def load(job: Job) -> nn.Module:
    """The purification followed by the standard model, in eval mode."""
    recipe = recipes.recall(job.run, NAME, Recipe)
    noise_scheduler()
    assert recipe.widths is not None
    tensors = read_tensors(job.run.file(f"{NAME}.safetensors"))
    network = denoiser(job.data.train.images.shape[1], tuple(recipe.widths))
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in tensors.items() if name != "start"}
    )
    classifier = load_classifier(job, "standard")
    start = int(tensors["start"])
    return Purified(network, classifier, start, recipe.reverse_steps, recipe.surrogate_steps).eval()
