"""Attacks around a bottleneck: they stay in the ball, and they find what useless gradients of G would hide."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import grfd
from grfd.attacks import pgd
from grfd.data import Data
from grfd.data.record import as_images
from grfd.defenses.grfd import GRFD
from grfd.evaluation.attacker import predictions
from grfd.evaluation.crafting import LabelledImages
from grfd.experiments.free import bottleneck
from grfd.experiments.free.bottleneck import AROUND, BOTTLENECK_FILE, attack_bottleneck, bottleneck_part, is_attacked
from grfd.method.lvcvae import LVCVAE

EPS = 0.15
DEMO = Path(__file__).parents[2] / "results" / "demo"


class Rounded(nn.Module):
    """16 shades: without a gradient, and nothing else is lost."""

    def forward(self, features: Tensor) -> Tensor:
        return (features * 16).round() / 16


class Image(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        return latents.view(-1, 1, 28, 28)


@pytest.fixture
def undefended() -> nn.Module:
    return grfd.load_defense(DEMO, defense="standard")


@pytest.fixture
def masked(undefended: nn.Module) -> GRFD:
    """The undefended network behind a G that rounds."""
    mean = nn.Linear(28 * 28, 28 * 28, bias=False)
    nn.init.eye_(mean.weight)
    unused = nn.Linear(28 * 28, 10)
    generator = LVCVAE(nn.Flatten(), mean, unused, unused, nn.Sequential(Rounded(), Image()))
    return GRFD(generator, undefended, kind="reconstruction").eval()


@pytest.fixture
def examples(mnist: Data) -> LabelledImages:
    return LabelledImages(as_images(mnist.test.images[:24]), mnist.test.labels[:24])


def _right(defense: nn.Module, made: Tensor, examples: LabelledImages) -> float:
    return (predictions(defense, made) == examples.labels).float().mean().item()


def test_the_identity_in_place_of_g_finds_what_no_gradient_finds(masked: GRFD, examples: LabelledImages) -> None:
    images, labels, _ = examples
    through = pgd(masked, images, labels, eps=EPS, step_size=EPS / 5, steps=100)
    around = bottleneck.around_generator(masked, examples, EPS, torch.Generator().manual_seed(0))
    assert _right(masked, around, examples) <= _right(masked, through, examples) - 0.3


@pytest.mark.parametrize("name", AROUND)
def test_every_attack_stays_in_the_ball_and_finds_something(
    name: str, examples: LabelledImages, undefended: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bottleneck, "_QUERIES", 600)
    published = grfd.load_defense(DEMO)
    assert isinstance(published, GRFD)
    defense = GRFD(published.generator, undefended, kind="reconstruction").eval()
    made = AROUND[name][1](defense, examples, 2 * EPS, torch.Generator().manual_seed(0))
    assert made.min() >= 0 and made.max() <= 1
    assert (made - examples.images).abs().max() <= 2 * EPS + 1e-6
    assert _right(defense, made, examples) < _right(defense, examples.images, examples) - 0.2


def test_the_table_has_each_attack_and_all_together(
    examples: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bottleneck, "_QUERIES", 50)
    few = LabelledImages(examples.images[:6], examples.labels[:6])
    defense = grfd.load_defense(DEMO)
    assert isinstance(defense, GRFD) and bottleneck_part(tmp_path, {}) == []
    attack_bottleneck({"free": defense}, few, tmp_path)
    assert is_attacked(tmp_path, ["free"]) and not is_attacked(tmp_path, ["free", "control"])
    _, table = bottleneck_part(tmp_path, {"free": np.array([True, False, True, True, True, True, False])})
    lines = table.splitlines()[2:]
    assert len(lines) == len(AROUND) + 2 and "83.3" in lines[-2]
    shares = [float(line.split("|")[2].split("[")[0]) for line in lines]
    assert shares[-1] <= min(shares[:-1]) and shares[-1] <= 83.4


def test_a_stopped_run_goes_on_behind_its_last_attack(
    examples: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bottleneck, "_QUERIES", 20)
    few = LabelledImages(examples.images[:4], examples.labels[:4])
    defense = grfd.load_defense(DEMO)
    assert isinstance(defense, GRFD)
    real = dict(AROUND)

    def stopped(*arguments: object) -> Tensor:
        raise KeyboardInterrupt

    monkeypatch.setitem(AROUND, "square", ("", stopped))
    with pytest.raises(KeyboardInterrupt):
        attack_bottleneck({"free": defense}, few, tmp_path)
    assert set(json.loads((tmp_path / BOTTLENECK_FILE).read_text())["right"]["free"]) == {"identity", "latents"}
    assert bottleneck_part(tmp_path, {"free": np.ones(4, dtype=bool)}) == []
    for name in AROUND:
        monkeypatch.setitem(AROUND, name, real[name] if name in ("square", "hopskipjump") else ("", stopped))
    attack_bottleneck({"free": defense}, few, tmp_path)
    assert is_attacked(tmp_path, ["free"])
