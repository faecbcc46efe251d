"""Searches for the smallest perturbation beside Foolbox 3.3.4 and adversarial-library 0.2.8, on a committed LeNet5."""

import importlib
import importlib.util
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ddn, deepfool, fmn
from grfd.data import Data
from grfd.data.record import as_images
from grfd.models import LeNet5
from grfd.runs import load_weights

WEIGHTS = Path(__file__).parents[2] / "results/mnist-lenet5/standard.safetensors"
STEPS = 100
ALLOWED = 1.02
"""Our median distance may be at most so much longer than theirs."""

Attacked = tuple[nn.Module, Tensor, Tensor]


def _adv_lib(module: str, patch: pytest.MonkeyPatch) -> Any:
    """A module of `adv_lib.attacks`, loaded without the package's own imports.

    Those need torchvision for a perceptual distance, and visdom for plots. Neither attack here uses them.
    """
    found = importlib.util.find_spec("adv_lib")
    assert found and found.submodule_search_locations, "run `make oracles`"
    package = types.ModuleType("adv_lib.attacks")
    package.__path__ = [str(Path(found.submodule_search_locations[0]) / "attacks")]
    patch.setitem(sys.modules, "adv_lib.attacks", package)
    if not importlib.util.find_spec("visdom"):
        patch.setitem(sys.modules, "visdom", types.ModuleType("visdom"))
    return importlib.import_module(f"adv_lib.attacks.{module}")


def _foolbox(attack: str, net: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return getattr(foolbox.attacks, attack)(steps=steps)(wrapped, images, labels, epsilons=None)[1]


@pytest.fixture(scope="module")
def attacked(mnist: Data) -> Attacked:
    """(LeNet5, the first 200 test images that it classifies correctly, labels)."""
    net = LeNet5().eval()
    load_weights(net, WEIGHTS)
    images, labels = as_images(mnist.test.images[:250]), mnist.test.labels[:250]
    right = (net(images).argmax(1) == labels).nonzero().squeeze(1)[:200]
    assert len(right) == 200
    return net, images[right], labels[right]


def _median(attacked: Attacked, norm: str, attack: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> float:
    """The median distance. An image that still stands counts as infinitely far from its adversarial example."""
    net, images, labels = attacked
    adversarial = attack(net, images, labels).detach()
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    distances = torch.linalg.vector_norm((adversarial - images).flatten(1), ord=order, dim=1)
    with torch.no_grad():
        fooled = net(adversarial).argmax(1) != labels
    return torch.where(fooled, distances, torch.inf).median().item()


def _compare(ours: float, theirs: float, what: str) -> None:
    print(f"{what}: ours {ours:.5f}, theirs {theirs:.5f}")
    assert 0 < ours <= ALLOWED * theirs and ours < math.inf


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["foolbox", "adv_lib"])
def test_ddn(library: str, attacked: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "foolbox":
        theirs = _median(attacked, "l2", lambda *given: _foolbox("DDNAttack", *given, STEPS))
    else:
        their_ddn = _adv_lib("decoupled_direction_norm", monkeypatch).ddn
        theirs = _median(attacked, "l2", lambda *given: their_ddn(*given, steps=STEPS, levels=None))
    ours = _median(attacked, "l2", lambda *given: ddn(*given, eps=math.inf, steps=STEPS))
    _compare(ours, theirs, f"DDN, {library}")


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("norm", "number", "name"),
    [("linf", math.inf, "LInf"), ("l2", 2, "L2"), ("l1", 1, "L1")],
    ids=lambda each: str(each),
)
@pytest.mark.parametrize("library", ["foolbox", "adv_lib"])
def test_fmn(
    library: str, norm: Any, number: float, name: str, attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "foolbox":
        theirs = _median(attacked, norm, lambda *given: _foolbox(f"{name}FMNAttack", *given, STEPS))
    else:
        their_fmn = _adv_lib("fast_minimum_norm", monkeypatch).fmn
        theirs = _median(attacked, norm, lambda *given: their_fmn(*given, norm=number, steps=STEPS))
    ours = _median(attacked, norm, lambda *given: fmn(*given, eps=math.inf, steps=STEPS, norm=norm))
    _compare(ours, theirs, f"FMN {norm}, {library}")


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("norm", "name"), [("linf", "Linf"), ("l2", "L2")])
def test_deepfool(norm: Any, name: str, attacked: Attacked) -> None:
    theirs = _median(attacked, norm, lambda *given: _foolbox(f"{name}DeepFoolAttack", *given, 50))
    ours = _median(attacked, norm, lambda *given: deepfool(*given, eps=math.inf, steps=50, norm=norm))
    _compare(ours, theirs, f"DeepFool {norm}, foolbox")
