"""Kill -9 at any moment, the same command again: the same bits as a run that was left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLED_AT_FSYNC = """
import os, signal, sys
wanted, real = int(sys.argv.pop(1)), os.fsync
seen = []
def fsync(handle):
    seen.append(1)
    if len(seen) == wanted:
        os.kill(os.getpid(), signal.SIGKILL)  # the temporary file is written, and not renamed yet
    real(handle)
os.fsync = fsync
from grfd.cli import main
main()
"""


def arguments(folder: Path, idx: Path) -> tuple[list[str], list[str]]:
    train = ["train", "quick", "--out", str(folder), "--data-dir", str(idx), "--epochs", "2"]
    train += ["--classifier-epochs", "2", "--latent", "8", "--batch", "64", "--device", "cpu"]
    evaluate = ["evaluate", str(folder), "--examples", "30", "--attacks", "fgsm", "--protocols", "adaptive"]
    return train, evaluate


def grfd(command: list[str], *, kill_at: int | None = None) -> int:
    program = [sys.executable, "-m", "grfd.cli"] if kill_at is None else [sys.executable, "-c", KILLED_AT_FSYNC]
    count = [] if kill_at is None else [str(kill_at)]
    return subprocess.run([*program, *count, *command], capture_output=True, check=False).returncode


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
    process = subprocess.Popen([sys.executable, "-m", "grfd.cli", *train], stdout=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "rsm.safetensors").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)  # in the middle of whatever it does now
    process.wait()
    assert grfd(train) == 0
    for write in (1, 4):
        assert grfd(evaluate, kill_at=write) == -signal.SIGKILL
    assert grfd(evaluate) == 0
    found = bits(folder)
    assert found.keys() == reference.keys() and len(found) >= 6 + 5
    assert [name for name, content in found.items() if content != reference[name]] == []
    assert not list(folder.rglob("*.grfd-partial"))


def test_a_killed_fit_ends_with_the_same_bits(tmp_path: Path, idx_folder: Path) -> None:
    def fit(name: str, kill_at: int | None = None) -> int:
        command = ["fit", "ape-gan", "--out", str(tmp_path / name), "--data-dir", str(idx_folder), "--device", "cpu"]
        return grfd([*command, "--classifier-epochs", "1", "--batch", "64", "--recipe.epochs", "2"], kill_at=kill_at)

    assert fit("whole") == 0
    for write in (3, 6):
        assert fit("killed", write) == -signal.SIGKILL
    assert fit("killed") == 0
    assert bits(tmp_path / "killed") == bits(tmp_path / "whole")
