"""Attacks in L1 beside pyautoattack 0.2.0, on a committed LeNet5."""

from pathlib import Path
from typing import Any

import pytest
import torch

from grfd.attacks import ALL_ATTACKS
from grfd.attacks.threat import length
from grfd.data import Data
from grfd.data.record import as_images
from grfd.models import LeNet5
from grfd.runs import load_weights

WEIGHTS = Path(__file__).parents[2] / "results/mnist-lenet5/standard.safetensors"
QUERIES = 500
CASES: dict[str, tuple[float, list[str], dict[str, Any], float]] = {
    "apgd_ce": (7.0, ["apgd-ce"], {}, 0.01),
    "apgd_t": (7.0, ["apgd-t"], {"targets": 5}, 0.015),
    "square": (12.0, ["square"], {"n_queries": QUERIES, "rescale": False}, 0.03),
}
"""Name → (ε, their names, our keywords, by how much our robust accuracy may be higher). Random starts differ."""


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_as_strong_as_the_original(name: str, mnist: Data) -> None:
    import pyautoattack

    eps, names, keywords, allowed = CASES[name]
    net = LeNet5().eval()
    load_weights(net, WEIGHTS)
    images, labels = as_images(mnist.test.images[:250]), mnist.test.labels[:250]
    right = (net(images).argmax(1) == labels).nonzero().squeeze(1)[:200]
    images, labels = images[right], labels[right]
    original = pyautoattack.AutoAttack(net, eps=eps, norm="L1", seed=0, version="custom", attacks=names)
    original.apgd.n_restarts = 1
    original.fab.n_restarts = 1
    original.fab.n_target_classes = original.apgd_targeted.n_target_classes = 5
    original.apgd.use_largereps = original.apgd_targeted.use_largereps = True
    original.square.n_queries = QUERIES
    theirs = original.run_standard_evaluation(images, labels, batch_size=len(images))[0]
    generator = torch.Generator().manual_seed(0)
    ours = ALL_ATTACKS[name].function(net, images, labels, eps=eps, norm="l1", generator=generator, **keywords)
    assert (length(ours - images, "l1") <= eps * (1 + 1e-5)).all() and ours.min() >= 0 and ours.max() <= 1
    with torch.no_grad():
        robust, wanted = ((net(each).argmax(1) == labels).float().mean().item() for each in (ours, theirs))
    print(f"{name}, ε = {eps}: ours {robust:.3f}, theirs {wanted:.3f}")
    assert 0 < robust <= wanted + allowed + 1e-6 and wanted < 0.9
