"""`grfd evaluate --model`: any classifier is judged, with no GRFD in it."""

import json
import sys
from pathlib import Path

import command
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import grfd
from grfd import cli
from grfd.data import Data
from grfd.data.record import as_images
from grfd.evaluation import records

MODULE = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

class Pair(nn.Module):
    # answers with (logits, features), as some libraries do
    def __init__(self):
        super().__init__()
        self.inner = build()
    def forward(self, x):
        return self.inner(x), x

class Words(nn.Module):
    def forward(self, x):
        return "cat"

def adapt(network):
    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
        def forward(self, x):
            return self.network(x)[0]
    return Logits()

def number():
    return 3
"""


def linear(data: Data, seed: int) -> nn.Module:
    """A linear classifier, fitted for a moment."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(as_images(data.train.images)), data.train.labels).backward()
            optimizer.step()
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: Data) -> Path:
    """A user's folder: a module and two weight files."""
    tmp_path = tmp_path_factory.mktemp("mine")
    (tmp_path / "mine.py").write_text(MODULE)
    for seed in (0, 1):
        save_file(linear(small, seed).state_dict(), tmp_path / f"w{seed}.safetensors")
    pair = {f"inner.{name}": tensor for name, tensor in linear(small, 0).state_dict().items()}
    save_file(pair, tmp_path / "pair.safetensors")
    return tmp_path


def test_a_model_of_ones_own_is_judged_and_shown(folder: Path) -> None:
    asked = ["--model", "mine:Pair", "--weights", "pair.safetensors", "--adapter", "mine:adapt", "--out", "judged"]
    asked += ["--sources", "mine:build=w1.safetensors", "--attacks", "fgsm", "square", "--examples", "12", "--json"]
    done = command.run("evaluate", *asked, "--eps", "0.05", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    cells = {(row["model"], row["protocol"], row["attack"]): row for row in found["rows"]}
    assert {key[:2] for key in cells} == {
        (model, protocol) for model in ("model", "mine:build") for protocol in ("whitebox", "adaptive")
    } | {("model", "transfer")}
    assert cells["model", "adaptive", "worst"]["accuracy"] <= cells["model", "whitebox", "fgsm"]["accuracy"]
    assert all(row["examples"] == 12 for row in found["rows"])
    shown = command.run("show", "judged", "--json", cwd=folder)
    assert json.loads(shown.stdout) == found
    recorded = json.loads((folder / "judged" / "evaluation.json").read_text())
    assert recorded["attacks"] == ["fgsm", "square"] and len(recorded["weights"]["model"]) == 64
    assert "torch" in recorded["versions"]


def test_the_api_takes_modules_and_tensors(small: Data, tmp_path: Path) -> None:
    model, source = linear(small, 0), linear(small, 1)
    found = grfd.evaluate_model(model, tmp_path / "own", small, sources={"other": source}, attacks=["pgd"], examples=20)
    rows = {(row.model, row.protocol, row.attack): row.accuracy for row in found.rows}
    assert rows["model", "whitebox", "pgd"] <= rows["model", "transfer", "pgd"] < rows["model", "transfer", "none"]
    assert model.training, "the caller's model is given back as it was"


def test_records_of_other_weights_are_made_anew(small: Data, tmp_path: Path) -> None:
    asked = {"out": tmp_path / "own", "data": small, "attacks": ["fgsm"], "protocols": ["whitebox"], "examples": 20}
    grfd.evaluate_model(linear(small, 0), **asked)
    first = records.read_records(tmp_path / "own")["model", "whitebox", "fgsm"]
    grfd.evaluate_model(linear(small, 1), **asked)
    second = records.read_records(tmp_path / "own")["model", "whitebox", "fgsm"]
    assert first.settings["models"] != second.settings["models"]
    assert len(second) == 20


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "expected a run folder, or --model"),
        (["somewhere", "--model", "mine:build"], "and not both"),
        (["--model", "mine:build"], "expected --out FOLDER"),
        (["--model", "mine", "--out", "o"], "expected package.module:factory"),
        (["--model", "none_such:build", "--out", "o"], "none_such"),
        (["--model", "mine:missing", "--out", "o"], "missing"),
        (["--model", "mine:number", "--out", "o"], "returns a int: expected a torch.nn.Module"),
        (["--model", "mine:Words", "--out", "o"], "an adapter can make it so"),
        (["--model", "mine:adapt", "--out", "o"], "mine:adapt raised TypeError"),
        (["--model", "mine:build", "--weights", "gone.safetensors", "--out", "o"], "gone.safetensors is not there"),
        (["--model", "mine:build", "--sources", "mine:build", "mine:build", "--out", "o"], "named twice"),
        (["--model", "mine:build", "--weights", "pair.safetensors", "--out", "o"], "fits another network"),
        (["--model", "mine:build", "--out", "o", "--protocols", "transfer"], "give a source"),
        (["--model", "mine:build", "--out", "o", "--attacks", "nothing"], "unknown attack 'nothing'"),
        (["--model", "mine:build", "--out", "o", "--data", "nothing"], "nothing"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path,
    asked: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(sys, "argv", ["grfd", "evaluate", *asked])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in said and said.startswith("grfd: ") and said.count("\n") == 1
    assert not list(folder.glob("o/records/**/*.npz"))


def test_a_model_with_other_classes_is_refused(small: Data, tmp_path: Path) -> None:
    with pytest.raises(grfd.UserError, match=r"answers with \(2, 784\)"):
        grfd.evaluate_model(Wide(), tmp_path / "own", small)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mine:number", "returns a int: expected a torch.nn.Module"),
        ("mine:adapt", "raised TypeError"),
        ("mine:Words", "answers with str"),
        ("mine:missing", "has no missing"),
        ("none_such:build", "none_such"),
        ("mine", "unknown model"),
        ("broken:build", "the import of broken raised ZeroDivisionError"),
        ("os:getcwd", "returns a str"),
    ],
)
@pytest.mark.parametrize("command", [["train", "quick"], ["standard", "quick"], ["fit", "pgd-at"]])
def test_training_refuses_it_before_any_file_is_made(
    folder: Path,
    command: list[str],
    model: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "broken.py").write_text("1 / 0")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "modules", {name: each for name, each in sys.modules.items() if name != "mine"})
    monkeypatch.setattr(sys, "argv", ["grfd", *command, "--model", model, "--out", "trained", "--device", "cpu"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in said and said.startswith("grfd: ") and said.count("\n") == 1
    assert not (folder / "trained").exists()
