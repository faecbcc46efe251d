"""Kill -9 at any moment, the same command again: the same bits as a run that was left alone."""

import os
import signal
import time
from pathlib import Path

import command
import pytest


def arguments(folder: Path, idx: Path) -> tuple[list[str], list[str]]:
    train = ["train", "quick", "--out", str(folder), "--data-dir", str(idx), "--epochs", "2"]
    train += ["--classifier-epochs", "2", "--latent", "8", "--batch", "64", "--device", "cpu"]
    evaluate = ["evaluate", str(folder), "--examples", "30", "--attacks", "fgsm", "--protocols", "adaptive"]
    return train, evaluate


def grfd(words: list[str], *, kill_at: int = 0) -> int:
    """The exit code of `grfd WORDS`; −9 where it was killed while it wrote its file of number `kill_at`."""
    return command.run(*words, kill_at=kill_at, one_probe=True).returncode


def bits(folder: Path) -> dict[str, bytes]:
    """Weights and records."""
    files = [*folder.glob("*.safetensors"), *folder.glob("records/**/*.npz")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def reference(tmp_path: Path, idx_folder: Path) -> dict[str, bytes]:
    train, evaluate = arguments(tmp_path / "reference", idx_folder)
    assert grfd(train) == 0 and grfd(evaluate) == 0
    return bits(tmp_path / "reference")


def test_killed_at_many_points_it_ends_with_the_same_bits(
    tmp_path: Path, idx_folder: Path, reference: dict[str, bytes]
) -> None:
    folder = tmp_path / "killed"
    train, evaluate = arguments(folder, idx_folder)
    for write in (1, 6, 5):  # the configuration, a checkpoint, a metrics file, weights …, each in its own process
        assert grfd(train, kill_at=write) == -signal.SIGKILL
    process = command.Running(*train)
    while process.is_alive() and not (folder / "rsm.safetensors").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)  # in the middle of whatever it does now
    assert process.done().returncode == -signal.SIGKILL
    assert grfd(train) == 0
    for write in (1, 4):
        assert grfd(evaluate, kill_at=write) == -signal.SIGKILL
    assert grfd(evaluate) == 0
    found = bits(folder)
    assert found.keys() == reference.keys() and len(found) >= 6 + 5
    assert [name for name, content in found.items() if content != reference[name]] == []
    assert not list(folder.rglob("*.grfd-partial"))


def test_a_killed_fit_ends_with_the_same_bits(tmp_path: Path, idx_folder: Path) -> None:
    def fit(name: str, kill_at: int = 0) -> int:
        words = ["fit", "ape-gan", "--out", str(tmp_path / name), "--data-dir", str(idx_folder), "--device", "cpu"]
        return grfd([*words, "--classifier-epochs", "1", "--batch", "64", "--recipe.epochs", "2"], kill_at=kill_at)

    assert fit("whole") == 0
    for write in (3, 6):
        assert fit("killed", write) == -signal.SIGKILL
    assert fit("killed") == 0
    assert bits(tmp_path / "killed") == bits(tmp_path / "whole")
