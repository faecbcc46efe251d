"""Every defense on a user's own folder of colour images and own `nn.Module`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import grfd
from grfd import cli
from grfd.defenses import DEFENSES

MODULE = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 2))
"""
TINY: dict[str, dict[str, Any]] = {
    "cd-vae": {"epochs": 1, "adversarial_epochs": 1, "steps": 1, "latent": 8},
    "randomized-smoothing": {"epochs": 1, "votes": 3},
    "gradient-regularisation": {"epochs": 1},
    "ape-gan": {"epochs": 1},
    "diffpure": {"epochs": 1, "widths": (16, 16), "levels": (20,), "reverse_steps": 1, "surrogate_steps": 1},
    "grfd-robust": {"epochs": 1, "steps": 1, "averaging": 0.9},
    "pgd-at": {"epochs": 1, "steps": 1},
    "trades": {"epochs": 1, "steps": 1},
    "cure": {"epochs": 1},
    "guided-denoiser": {"epochs": 1, "width": 8},
    "distillation": {"epochs": 1},
    "feature-scattering": {"epochs": 1},
    "trs": {"epochs": 1, "steps": 1},
    "bayesian": {"epochs": 1, "votes": 3},
    "robust-components": {"epochs": 1, "steps": 1},
    "grfd-free": {"epochs": 1},
    "n-fgsm": {"epochs": 1},
    "magnet": {"epochs": 1},
    "total-variation": {"iterations": 2, "votes": 3},
    "crop-rescale": {"votes": 3},
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of red and blue squares, 96×96, and a module that tells them apart."""
    draw = np.random.default_rng(0)
    for index, name in enumerate(("red", "blue")):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(15):
            pixels = draw.integers(0, 90, (96, 96, 3), dtype=np.uint8)
            pixels[..., 2 * index] += 120
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def command(*words: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["grfd", *words])
        cli.main()


def test_every_defense_is_fitted_and_judged(mine: Path, one_probe: None, capsys: pytest.CaptureFixture[str]) -> None:
    training = {"classifier-epochs": "4", "epochs": "1", "latent": "8", "batch": "16", "device": "cpu"}
    options = {"out": "run", "data": "folder", "data-dir": "images", "model": "mine:build"} | training
    command("fit", "standard", *(word for name, value in options.items() for word in (f"--{name}", value)))
    for name in DEFENSES:
        grfd.fit(name, "run", recipe=TINY.get(name), trust=True)
    command("evaluate", "run", "--trust", "--protocols", "transfer", "--attacks", "fgsm", "--examples", "4",
            "--defenses", *(name for name in DEFENSES if name != "diffpure"))  # fmt: skip
    assert "F.S., detector" in capsys.readouterr().out
    found = grfd.results("run").rows
    assert {row.model for row in found} == {*DEFENSES, "second-standard"} - {"standard", "diffpure"}
    assert all(0 <= row.accuracy <= 1 for row in found)
    with Image.open("run/gallery.png") as figure:
        assert min(figure.size) > 300
    diffpure = grfd.load_defense("run", defense="diffpure", trust=True)
    assert diffpure(grfd.load("folder", mine / "images").test.images[:2] / 255.0).shape == (2, 2)


def test_fit_refuses_what_cannot_be(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("fit", "trades", "--out", "run", "--data", "folder", "--data-dir", "nowhere"), "nowhere is not a folder"),
        (("fit", "trades", "--out", "run", "--data", "folder", "--data-dir", "images", "--model", "mine:none"), "none"),
        (("evaluate", "run", "--defenses", "trades"), "run"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command(*words)
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and message in said and said.count("\n") == 1
    assert not (mine / "run").exists()
