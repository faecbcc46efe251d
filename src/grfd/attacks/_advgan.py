"""Generator-based attacks in the manner of AdvGAN (Xiao et al. 2018, arXiv 1801.02610) and of SE-AdvGAN (Su 2023).

AdvGAN trains its generator on a training set, and then needs one forward pass for each image. Here the generator is
trained on the images that it attacks, which can only make the attack stronger. ε is a hard bound (ε·tanh), which
replaces the hinge loss of the paper.

SE-AdvGAN has no published code; ours is a reconstruction: AdvGAN with a squeeze-and-excitation block (Hu et al. 2018)
after each convolution of generator and discriminator, and with the hinge loss on the Euclidean length.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from grfd.attacks.active_set import keep_better, remaining
from grfd.attacks.checked_model import CheckedModel, logits_of
from grfd.attacks.gradients import mean_lead
from grfd.attacks.inputs import Model, attacking
from grfd.attacks.losses import lead, margin
from grfd.attacks.ranges import COUNT, NOT_NEGATIVE, POSITIVE, in_range
from grfd.attacks.threat import Batch, finished, project, rows_of
from grfd.types import Images, Labels

_WIDTH = 32
_RATIO = 4
"""Maps of a squeeze-and-excitation block for each of its inner numbers."""

_Networks = tuple[nn.Module, nn.Module]
"""Generator and discriminator."""


class _Training(NamedTuple):
    """How generator and discriminator are trained, and whether an image leaves once it fools the model."""

    steps: int
    learning_rate: float
    realism: float
    hinge: float
    active_set: bool


def advgan(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 200,
    learning_rate: float = 1e-3,
    realism: float = 0.1,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """x + ε·tanh(G(x)), where G maximises the margin (C&W's loss) plus `realism` times a discriminator's score (LSGAN).

    images [batch, channel, height, width] in `bounds`; labels [batch]; ε in pixels of [0, 1]. Every step of Adam uses
    all images that are not fooled yet. For each image, the result is the candidate that the model gets most wrong. With
    `active_set`, an image leaves the batch as soon as it fools the model.
    Raises UserError for a wrong shape, range, ε or count.
    """
    training = _Training(steps, learning_rate, realism, 0.0, active_set)
    with attacking(model, images, labels, eps, bounds) as (checked, batch):
        return _generated(checked, batch, training, _plain, generator)


def se_advgan(
    model: Model,
    images: Images,
    labels: Labels,
    *,
    eps: float,
    steps: int = 200,
    learning_rate: float = 1e-3,
    realism: float = 0.1,
    hinge: float = 0.01,
    active_set: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """AdvGAN with squeeze-and-excitation, and with `hinge` times the length of a perturbation beyond half the largest.

    The largest Euclidean length is that of a corner of the L∞ ball, ε·√pixels. Shapes, units and errors as in `advgan`.
    """
    in_range(hinge=(hinge, NOT_NEGATIVE))
    training = _Training(steps, learning_rate, realism, hinge, active_set)
    with attacking(model, images, labels, eps, bounds) as (checked, batch):
        return _generated(checked, batch, training, _excited, generator)


def _generated(
    model: CheckedModel,
    batch: Batch,
    training: _Training,
    layers: Callable[[int], list[nn.Module]],
    generator: torch.Generator | None,
) -> Images:
    """Trains both networks on the images, and returns the best candidate of each image."""
    in_range(steps=(training.steps, COUNT), learning_rate=(training.learning_rate, POSITIVE))
    in_range(realism=(training.realism, NOT_NEGATIVE))
    result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels)
    networks = _networks(batch.images, layers, generator)
    optimizers = [torch.optim.Adam(each.parameters(), lr=training.learning_rate) for each in networks]
    for _ in range(training.steps):
        rows = remaining(best, training.active_set)
        if len(rows) == 0:
            break
        tried, leads = _step(model, rows_of(batch, rows), networks, optimizers, training)
        keep_better(result, best, rows, tried, leads)
    return finished(result, batch)


def _networks(images: Images, layers: Callable[[int], list[nn.Module]], generator: torch.Generator | None) -> _Networks:
    """Generator and discriminator, whose weights are drawn from the attack's own random stream."""
    device = images.device if generator is None else generator.device
    seed = torch.randint(2**62, (), generator=generator, device=device).item()
    channels = images.shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(int(seed))
        network = nn.Sequential(*layers(channels), nn.Conv2d(_WIDTH, channels, 3, padding=1))
        judge = nn.Sequential(*layers(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTH, 1))
    return network.to(images), judge.to(images)


def _plain(channels: int) -> list[nn.Module]:
    """The first layers of both networks of AdvGAN."""
    return [
        nn.Conv2d(channels, _WIDTH, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
        nn.ReLU(),
    ]


def _excited(channels: int) -> list[nn.Module]:
    """The same with squeeze-and-excitation after each convolution."""
    first, activation, second, last = _plain(channels)
    return [first, activation, _Excitation(), second, last, _Excitation()]


class _Excitation(nn.Module):
    """Scales each map by a number between 0 and 2 that depends on the means of all maps. At the start it is about 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(_WIDTH, _WIDTH // _RATIO), nn.ReLU(), nn.Linear(_WIDTH // _RATIO, _WIDTH), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        scales: Tensor = self.layers(features.mean((2, 3)))
        return 2 * features * scales[:, :, None, None]


def _step(
    model: CheckedModel,
    batch: Batch,
    networks: _Networks,
    optimizers: list[torch.optim.Adam],
    training: _Training,
) -> tuple[Images, Tensor]:
    """One step of both networks. Returns the candidate images of this step, and their leads."""
    network, judge = networks
    with torch.enable_grad():
        tried = project(batch.images + batch.eps * network(batch.images).tanh(), batch)
        logits = logits_of(model, tried)
        climbed = margin(logits, batch.labels).clamp_max(0).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).mean()
        opinion = (judge(tried) - 1).square().mean()
        loss = training.realism * opinion - climbed
        if training.hinge:
            loss = loss + training.hinge * _beyond(tried - batch.images, batch.eps)
        _descend(optimizers[0], loss, network)
        doubt = (judge(batch.images) - 1).square().mean() + judge(tried.detach()).square().mean()
        _descend(optimizers[1], doubt, judge)
    return tried.detach(), lead(logits.detach(), batch.labels)


def _beyond(change: Images, eps: float) -> Tensor:
    """By how much a perturbation is longer than half of the largest, as a share of the largest; the mean."""
    pixels = change[0].numel()
    # 1e-12, because the square root has no derivative at 0
    share = (change.square().flatten(1).sum(1) + 1e-12).sqrt() / max(eps * pixels**0.5, 1e-12)
    return (share - 0.5).clamp_min(0).mean()


def _descend(optimizer: torch.optim.Adam, loss: Tensor, network: nn.Module) -> None:
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    optimizer.step()
