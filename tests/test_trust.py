"""A run folder may come from somebody else: code that only its config.json names is never imported unasked."""

import json
import sys
from pathlib import Path

import command
import pytest
import torch
from PIL import Image

import grfd
from grfd.api.job import build_architecture

HELPER = """
from pathlib import Path
from torch import nn
Path("ran").write_text("code of the folder ran")

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the module that its configuration names beside it, and a picture."""
    path = tmp_path_factory.mktemp("downloaded") / "run"
    settings = {"train_examples": 64, "epochs": 1, "classifier_epochs": 1, "latent": 4, "device": "cpu", "batch": 32}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        patch.setitem(sys.modules, "helper", None)
        del sys.modules["helper"]
        (path.parent / "helper.py").write_text(HELPER)
        grfd.train(path, model="helper:make", **settings)
        sys.modules.pop("helper")
    (path / "helper.py").write_text(HELPER)
    Image.new("L", (28, 28)).save(path / "x.png")
    return path


@pytest.fixture
def folder(downloaded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(downloaded)
    (downloaded / "ran").unlink(missing_ok=True)
    return downloaded


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", ".", "x.png"],
        ["evaluate", ".", "--attacks", "fgsm", "--examples", "5"],
        ["fit", "bit-depth", "--out", "."],
    ],
)
def test_a_command_runs_no_code_of_a_run_folder(folder: Path, arguments: list[str]) -> None:
    before = sorted(folder.rglob("*"))
    done = command.run(*arguments, cwd=folder)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "'helper:make'" in done.stderr and "--trust" in done.stderr
    assert not (folder / "ran").exists()
    left = [path for path in sorted(folder.rglob("*")) if path.name != ".lock"]
    assert left == [path for path in before if path.name != ".lock"]


def test_consent_is_given_by_an_option(folder: Path) -> None:
    done = command.run("predict", ".", "x.png", "--trust", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("x.png") and (folder / "ran").exists()


def test_the_name_typed_again_is_consent(folder: Path) -> None:
    done = command.run("fit", "bit-depth", "--model", "helper:make", "--out", ".", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "ran").exists()


def test_the_api_imports_what_the_caller_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for call in (
        lambda: grfd.load_defense(folder),
        lambda: grfd.predict(folder, ["x.png"]),
        lambda: grfd.evaluate(folder, attacks=["fgsm"], examples=5),
        lambda: grfd.fit("feature-squeezing", folder),
    ):
        with pytest.raises(grfd.UserError, match="trust=True"):
            call()
        assert not (folder / "ran").exists()
    images, before = torch.rand(2, 1, 28, 28), list(sys.path)
    expected = grfd.load_defense(folder, trust=True)(images)
    assert torch.equal(grfd.load_defense(folder, model="helper:make")(images), expected)
    assert [label for _, label, _ in grfd.predict(folder, "x.png", trust=True)]
    assert sys.path == before


def test_disentangle_and_results_need_no_consent_since_they_import_nothing(folder: Path) -> None:
    grfd.disentangle(folder, "test", folder.parent / "parts.npz")
    assert not (folder / "ran").exists()


def test_a_registered_name_needs_no_consent(small: grfd.Data) -> None:
    assert build_architecture(grfd.Config(), small)()(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_names_of_timm_s_are_never_addresses(small: grfd.Data) -> None:
    """timm would fetch `hf_hub:…`; with a colon it is code, which needs consent, and is no name to import."""
    config = grfd.Config(model="timm/hf_hub:somebody/network")
    with pytest.raises(grfd.UserError, match="consent"):
        build_architecture(config, small)
    with pytest.raises(grfd.UserError, match=r"expected package\.module:factory"):
        build_architecture(config, small, trust=True)


def test_the_folder_holds_the_name_as_it_was_given(downloaded: Path) -> None:
    assert json.loads((downloaded / "config.json").read_text())["config"]["model"] == "helper:make"
