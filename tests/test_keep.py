"""A run is kept in results/ with what pages are made of, and nothing that is kept already is lost."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from grfd import cli, runs
from grfd.api import keeping
from grfd.config import Config
from grfd.errors import UserError
from grfd.experiments.minutes import measured_minutes, store_minutes


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with a file of each kind."""
    monkeypatch.chdir(tmp_path)
    path = runs.create(Path("runs/study/seed-0"), Config(device="cpu")).path
    runs.write_json(path / "results.json", {"rows": [], "checks": []})
    runs.write_tensors(path / "standard.safetensors", {"weight": torch.zeros(10)})
    runs.write_tensors(path / "large.safetensors", {"weight": torch.zeros(keeping.LARGEST_WEIGHTS // 4 + 1)})
    runs.write_tensors(path / "checkpoints" / "epoch.safetensors", {"weight": torch.zeros(10)})
    (path / "figure.png").write_bytes(b"a picture")
    _write_record(path, "pgd")
    return path


def _write_record(path: Path, attack: str) -> None:
    (path / "records/grfd/whitebox").mkdir(parents=True, exist_ok=True)
    np.savez(path / f"records/grfd/whitebox/{attack}.npz", index=np.arange(3))


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_pages_are_made_of_is_copied_to_the_same_place(run: Path) -> None:
    destination, files = keeping.keep(run)
    assert destination == Path("results/study/seed-0")
    assert _names(destination) == {
        "config.json",
        "results.json",
        "standard.safetensors",
        "records/grfd/whitebox/pgd.npz",
    }
    left_out = {each.path.as_posix() for each in files if each.reason}
    assert left_out >= {"large.safetensors", "checkpoints/epoch.safetensors", "figure.png"}
    assert all((run / path).exists() for path in left_out)
    assert (destination / "config.json").read_bytes() == (run / "config.json").read_bytes()
    assert runs.load(destination).config == runs.load(run).config


def test_a_kept_run_follows_one_that_has_more_records(run: Path) -> None:
    keeping.keep(run)
    _write_record(run, "fgsm")
    destination, _ = keeping.keep(run)
    assert {"records/grfd/whitebox/pgd.npz", "records/grfd/whitebox/fgsm.npz"} <= _names(destination)
    assert list(Path("results/study").iterdir()) == [destination]


def test_records_that_the_run_lacks_are_lost_on_request_alone(run: Path) -> None:
    destination, _ = keeping.keep(run)
    (run / "records/grfd/whitebox/pgd.npz").unlink()
    before = _names(destination)
    with pytest.raises(UserError, match=r"1 records that the run lacks, such as records/grfd/whitebox/pgd.npz"):
        keeping.keep(run)
    assert _names(destination) == before
    keeping.keep(run, replace=True)
    assert "records/grfd/whitebox/pgd.npz" not in _names(destination)


def test_other_runs_below_a_kept_one_stay(run: Path) -> None:
    inner = runs.create(run / "judged", Config(device="cpu")).path
    _write_record(inner, "aa")
    kept_inside, _ = keeping.keep(inner)
    assert kept_inside == Path("results/study/seed-0/judged")
    destination, _ = keeping.keep(run)
    assert (kept_inside / "records/grfd/whitebox/aa.npz").exists()
    assert (destination / "records/grfd/whitebox/pgd.npz").exists()


def test_a_run_outside_of_runs_has_no_place(run: Path, tmp_path: Path) -> None:
    elsewhere = run.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="lies below no folder named runs"):
        keeping.keep(elsewhere)
    assert not Path("results").exists()


def test_the_minutes_of_the_experiment_are_kept_with_its_runs(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    store_minutes(run.parent, "quick", "first", 1.5)
    for argument in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["grfd", "keep", str(run), *argument])
        cli.main()
        store_minutes(run.parent, "quick", "second", 2.5)
    assert measured_minutes(Path("results/study"), "quick") == {"first": 1.5, "second": 2.5}
    assert measured_minutes(Path("elsewhere/study"), "quick") == {"first": 1.5, "second": 2.5}, "results/ is looked at"
    assert measured_minutes(Path("runs/study"), "paper") == {}


def test_the_command_says_what_it_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["grfd", "keep", str(run), "--json"])
    cli.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed["kept"] == "results/study/seed-0"
    assert {row["path"] for row in printed["files"]} == _names(Path("results/study/seed-0"))
    assert any(row["path"] == "large.safetensors" and "7,000,000 bytes" in row["reason"] for row in printed["left_out"])
