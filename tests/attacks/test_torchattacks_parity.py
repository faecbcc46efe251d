"""Image by image against TorchAttacks 3.5.1, the paper's library, under the keywords `torchattacks` of the registry.

In float64, so that the sign of a gradient does not hang on the order of a sum.
"""

import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS, eotpgd, fgsm, pgd, vmifgsm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torchattacks = pytest.importorskip("torchattacks")

EPS, STEP, STEPS = 0.08, 0.03, 7
SETTINGS = {name: entry.torchattacks or {} for name, entry in ALL_ATTACKS.items()}


@pytest.fixture
def double(small_net: Callable[..., nn.Module]) -> tuple[nn.Module, Tensor, Tensor]:
    """(net, images, labels), a quarter of them misclassified, as the original attacks these too."""
    net = small_net(dtype=torch.float64)
    images = torch.rand(16, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = net(images).argmax(1)
    labels[::4] = (labels[::4] + 1) % 10
    return net, images, labels


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """[neighbours, batch, …] in [−1, 1], which both libraries now draw in place of theirs."""
    drawn = torch.rand(5, 16, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    calls = iter(range(10**6))

    def theirs(self: Tensor, low: float, high: float) -> Tensor:
        return high * drawn[next(calls) % len(drawn)]

    def ours(like: Tensor, shape: tuple[int, ...], low: float, high: float, generator: None) -> Tensor:
        return high * (drawn if len(shape) == 5 else drawn[0])

    monkeypatch.setattr(torch.Tensor, "uniform_", theirs)
    # The functions hide the modules of the same name.
    monkeypatch.setattr(sys.modules["grfd.attacks._vmifgsm"], "uniform", ours)
    monkeypatch.setattr(sys.modules["grfd.attacks.threat"], "uniform", ours)
    return drawn


def _same(ours: Tensor, theirs: Tensor, images: Tensor) -> None:
    assert (theirs - images).abs().mean() > EPS / 2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_fgsm(double: tuple[nn.Module, Tensor, Tensor]) -> None:
    ours = fgsm(*double, eps=EPS, **SETTINGS["fgsm"])
    _same(ours, torchattacks.FGSM(double[0], eps=EPS)(*double[1:]), double[1])


@pytest.mark.parametrize("random_start", [True, False])
def test_pgd(random_start: bool, double: tuple[nn.Module, Tensor, Tensor], noise: Tensor) -> None:
    settings = {"eps": EPS, "steps": STEPS, "random_start": random_start}
    ours = pgd(*double, step_size=STEP, **settings, **SETTINGS["pgd"])
    _same(ours, torchattacks.PGD(double[0], alpha=STEP, **settings)(*double[1:]), double[1])


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("samples", [1, 3])
def test_eotpgd(samples: int, random_start: bool, double: tuple[nn.Module, Tensor, Tensor], noise: Tensor) -> None:
    settings = {"eps": EPS, "steps": STEPS, "random_start": random_start}
    ours = eotpgd(*double, step_size=STEP, samples=samples, **settings, **SETTINGS["eotpgd"])
    theirs = torchattacks.EOTPGD(double[0], alpha=STEP, eot_iter=samples, **settings)(*double[1:])
    _same(ours, theirs, double[1])


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_vmifgsm(decay: float, double: tuple[nn.Module, Tensor, Tensor], noise: Tensor) -> None:
    settings = {"eps": EPS, "steps": STEPS, "decay": decay}
    ours = vmifgsm(*double, step_size=STEP, **settings, **SETTINGS["vmifgsm"])
    _same(ours, torchattacks.VMIFGSM(double[0], alpha=STEP, **settings)(*double[1:]), double[1])


def test_vmifgsm_freezes_as_the_original_does(double: tuple[nn.Module, Tensor, Tensor], noise: Tensor) -> None:
    net, images, labels = double
    with torch.no_grad():
        net[3].weight.mul_(1e5)
        net[3].bias.mul_(1e5)
    settings = {"eps": EPS, "steps": STEPS}
    ours = vmifgsm(net, images, labels, step_size=STEP, **settings, **SETTINGS["vmifgsm"])
    theirs = torchattacks.VMIFGSM(net, alpha=STEP, **settings)(images, labels)
    frozen = (theirs == images).flatten(1).all(1)
    assert 0 < frozen.sum() < len(images)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
