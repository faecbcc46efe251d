"""`grfd models`: every fitted model below a folder, with the numbers of its evaluation, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import grfd
from grfd import cli
from grfd.errors import UserError

DEMO = Path(__file__).parents[1] / "results" / "demo"


@pytest.fixture
def runs_folder(tmp_path: Path) -> Path:
    """The committed demo, a copy that was not judged, and a folder of records without weights."""
    shutil.copytree(DEMO, tmp_path / "runs" / "demo")
    shutil.copytree(DEMO, tmp_path / "runs" / "new")
    (tmp_path / "runs" / "new" / "results.json").unlink()
    shutil.copytree(DEMO, tmp_path / "runs" / "records", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "runs"


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    cli._dispatch([*map(str, arguments)])
    return capsys.readouterr().out


def test_models_are_listed_with_the_numbers_of_their_evaluation(runs_folder: Path) -> None:
    listed = {(Path(model.run).name, model.defense): model for model in grfd.fitted_models(runs_folder)}
    assert {name for name, _ in listed} == {"demo", "new"}
    assert ("demo", "second-standard") not in listed and ("demo", "trades") not in listed
    rows = {(row.model, row.protocol, row.attack): row for row in grfd.results(runs_folder / "demo").rows}
    found = listed["demo", "grfd"]
    assert found.worst == rows["grfd", "adaptive", "worst"] and found.clean == rows["grfd", "adaptive", "none"]
    assert found.attacks == ("fgsm", "pgd", "eotpgd", "vmifgsm", "a3") and 1 < found.megabytes < 3
    assert listed["new", "grfd"].worst is None
    model = grfd.load_defense(found.run, defense=found.defense)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_command_prints_the_same(runs_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = json.loads(said_by(capsys, "models", runs_folder, "--json"))
    worst = {(Path(each["run"]).name, each["defense"]): each["worst"] for each in printed}
    assert worst["demo", "grfd"] == pytest.approx(92 / 300) and worst["new", "grfd"] is None
    table = said_by(capsys, "models", runs_folder)
    assert "30.7" in table and "not judged" in table


def test_a_run_that_was_judged_at_another_eps_tells_it(runs_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = runs_folder / "demo" / "results.json"
    content = json.loads(file.read_text())
    for row in content["rows"]:
        row |= {"norm": "linf", "eps": 0.1}
    file.write_text(json.dumps(content))
    table = " ".join(said_by(capsys, "models", runs_folder).split())
    assert "adaptive, L∞, ε = 0.1" in table and "30.7" in table


def test_a_network_of_another_program_is_passed_over(runs_folder: Path) -> None:
    folder = runs_folder / "resnet"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["ResNet"]}')
    (folder / "model.safetensors").write_bytes(b"0")
    assert {Path(model.run).name for model in grfd.fitted_models(runs_folder)} == {"demo", "new"}
    (runs_folder / "demo" / "config.json").write_text('{"git_revision": 3')
    with pytest.raises(UserError, match="demo"):
        grfd.fitted_models(runs_folder)


def test_a_folder_without_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no fitted model" in said_by(capsys, "models", tmp_path)
    with pytest.raises(UserError, match="is not there"):
        grfd.fitted_models(tmp_path / "gone")


def test_a_model_that_an_experiment_judged_beside_others_is_listed_with_its_numbers(runs_folder: Path) -> None:
    (runs_folder / "new" / "judged_as.json").write_text(
        json.dumps({"defense": "grfd", "folder": "../demo", "model": "standard"})
    )
    numbers = {(Path(model.run).name, model.defense): model.worst for model in grfd.fitted_models(runs_folder)}
    there, here = numbers["demo", "standard"], numbers["new", "grfd"]
    assert ("new", "standard") not in numbers, "it was not judged, and grfd trained it for the other"
    assert there is not None and here is not None and here.model == "grfd" and here.accuracy == there.accuracy
    shutil.copyfile(runs_folder / "demo" / "results.json", runs_folder / "new" / "results.json")
    own = {model.run: model.worst for model in grfd.fitted_models(runs_folder) if model.defense == "grfd"}
    assert own[str(runs_folder / "new")] == own[str(runs_folder / "demo")], "an evaluation of its own comes first"


def test_a_damaged_pointer_to_a_verdict_is_one_line(runs_folder: Path) -> None:
    (runs_folder / "new" / "judged_as.json").write_text('{"folder": 3}')
    with pytest.raises(UserError, match="judged_as"):
        grfd.fitted_models(runs_folder)
