"""A generator-based attack in the manner of AdvGAN (Xiao et al. 2018, arXiv 1801.02610).

AdvGAN trains its generator on a training set, and then needs one forward pass for each image. Here the generator is
trained on the images that it attacks, which can only make the attack stronger. ε is a hard bound (ε·tanh), which
replaces the hinge loss of the paper.
"""

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
    in_range(steps=(steps, COUNT), learning_rate=(learning_rate, POSITIVE), realism=(realism, NOT_NEGATIVE))
    with attacking(model, images, labels, eps, bounds) as (model, batch):
        result, best = batch.images.clone(), mean_lead(model, batch.images, batch.labels)
        network, judge = _networks(batch.images, generator)
        optimizers = [torch.optim.Adam(each.parameters(), lr=learning_rate) for each in (network, judge)]
        for _ in range(steps):
            rows = remaining(best, active_set)
            if len(rows) == 0:
                break
            part = rows_of(batch, rows)
            tried, leads = _step(model, part, network, judge, optimizers, realism)
            keep_better(result, best, rows, tried, leads)
        return finished(result, batch)


def _networks(images: Images, generator: torch.Generator | None) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator, whose weights are drawn from the attack's own random stream."""
    device = images.device if generator is None else generator.device
    seed = torch.randint(2**62, (), generator=generator, device=device).item()
    with torch.random.fork_rng():
        torch.manual_seed(int(seed))
        network = nn.Sequential(*_trunk(images.shape[1]), nn.Conv2d(_WIDTH, images.shape[1], 3, padding=1))
        judge = nn.Sequential(*_trunk(images.shape[1]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTH, 1))
    return network.to(images), judge.to(images)


def _trunk(channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, _WIDTH, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
        nn.ReLU(),
    ]


def _step(
    model: CheckedModel,
    batch: Batch,
    network: nn.Module,
    judge: nn.Module,
    optimizers: list[torch.optim.Adam],
    realism: float,
) -> tuple[Images, Tensor]:
    """One step of both networks. Returns the candidate images of this step, and their leads."""
    with torch.enable_grad():
        tried = project(batch.images + batch.eps * network(batch.images).tanh(), batch)
        logits = logits_of(model, tried)
        climbed = margin(logits, batch.labels).clamp_max(0).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).mean()
        opinion = (judge(tried) - 1).square().mean()
        _descend(optimizers[0], realism * opinion - climbed, network)
        doubt = (judge(batch.images) - 1).square().mean() + judge(tried.detach()).square().mean()
        _descend(optimizers[1], doubt, judge)
    return tried.detach(), lead(logits.detach(), batch.labels)


def _descend(optimizer: torch.optim.Adam, loss: Tensor, network: nn.Module) -> None:
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    optimizer.step()
