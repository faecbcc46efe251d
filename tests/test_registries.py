"""One line in a registry is enough: the judge, tables, pages and help texts know what is registered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dummies import ENTRIES

import grfd
from grfd import cli

HELP = """
import sys
from dummies import ENTRIES
for registry, name, entry in ENTRIES:
    registry[name] = entry
from grfd import cli
for arguments in (["fit"], ["fit", "dummy", "--help"], ["evaluate", "--help"], ["reproduce", "--help"], ["reproduce"]):
    try:
        cli._dispatch(arguments)
    except SystemExit as stop:
        assert not stop.code
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry, name, entry in ENTRIES:
        monkeypatch.setitem(registry, name, entry)


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    cli._dispatch([*map(str, arguments)])
    return " ".join(capsys.readouterr().out.split())


def test_judge_and_table_know_what_is_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--epochs", "1", "--classifier-epochs", "1", "--batch", "16", "--latent", "4", "--device", "cpu"]
    call(capsys, "fit", "dummy", "--out", tmp_path, "--data", "stripes", "--recipe.strength", "2", *settings)
    assert (tmp_path / "recipes/dummy.json").exists()
    table = call(capsys, "evaluate", tmp_path, "--attacks", "fgsm", "brighter", "--examples", "9")
    for title in ("Brighter", "Dummy", "FGSM", "whitebox", "adaptive", "transfer"):
        assert title in table
    rows = {(row.model, row.protocol, row.attack): row for row in grfd.results(tmp_path).rows}
    assert rows["dummy", "adaptive", "brighter"].examples == 9
    worst = rows["dummy", "adaptive", "worst"].accuracy
    assert worst <= min(rows["dummy", "adaptive", name].accuracy for name in ("fgsm", "brighter"))


def test_an_experiment_is_listed_run_and_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nothing --scale quick: 0 of 1 cells done" in call(capsys, "reproduce", "--list")
    assert "there is one more experiment." in call(capsys, "reproduce", "nothing", "--list")
    assert "a file not measured to do" in call(capsys, "reproduce", "nothing", "--dry-run")
    assert "quick: done" in call(capsys, "reproduce", "nothing")
    assert " done" in call(capsys, "reproduce", "nothing", "--dry-run")
    (tmp_path / "results").mkdir()
    call(capsys, "page", "--out", "docs")
    assert "## A dummy experiment" in (tmp_path / "docs/reproduction.md").read_text()


def test_help_names_what_is_registered() -> None:
    """In a process of its own, since help texts are made when the commands are imported."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("A dummy defense") == 2 and "--recipe.strength" in done.stdout
    assert "brighter" in done.stdout and "nothing" in done.stdout and "there is one more experiment." in done.stdout
