"""Two processes of one job: the same run as one process makes, one writer, and a killed worker ends it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import command
import pytest
import torch

from grfd import UserError, processes, seeds

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "grfd.cli"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
Started = Callable[..., list[command.Done]]
ONCE = ["--classifier-epochs", "1", "--latent", "8", "--device", "cpu"]


def torchrun(*arguments: str) -> list[command.Done]:
    """Two processes, as torchrun starts them."""
    done = subprocess.run([*TORCHRUN, *arguments], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    return [command.Done(done.returncode, done.stdout, done.stderr)]


def forked(*arguments: str) -> list[command.Done]:
    """Two processes without the start of Python in each."""
    return command.run_together(2, *arguments)


def curve(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "alone"
    # 333 images: the last batch is of 13, which two processes cannot share evenly
    asked = ["train", "quick", "--train-examples", "333", "--epochs", "2", "--batch", "64", *ONCE]
    done = command.run(*asked, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("passes", "started"), [("1", torchrun), ("2", forked)])
def test_two_processes_train_what_one_trains(alone: Path, passes: str, started: Started) -> None:
    together = alone.with_name(f"together-{passes}")
    asked = ["train", "quick", "--train-examples", "333", "--epochs", "2", "--batch", "64", *ONCE]
    done = started(*asked, "--passes", passes, "--out", str(together))
    assert all(each.returncode == 0 for each in done), done
    expected, found = curve(alone), curve(together)
    assert len(found) == len(expected)
    for one, two in zip(expected, found, strict=True):
        assert one.pop("stage") == two.pop("stage")
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4)
    assert sum(each.stdout.count("train ") for each in done) == 1, "one process speaks"
    files = {path.relative_to(together) for path in together.rglob("*")}
    assert files == {path.relative_to(alone) for path in alone.rglob("*")}


def test_two_processes_judge_to_the_same_bits(alone: Path) -> None:
    asked = ["--examples", "1100", "--attacks", "fgsm", "--protocols", "transfer", "adaptive"]
    folders = [alone.with_name(name) for name in ("judged-alone", "judged-together")]
    for count, folder in enumerate(folders, 1):
        shutil.copytree(alone, folder)
        done = command.run_together(count, "evaluate", folder, *asked, one_probe=True)
        assert [each.returncode for each in done] == [0] * count, done
    one, two = folders
    records = sorted(path.relative_to(one) for path in one.glob("records/**/*.npz"))
    assert len(records) == 6
    for file in [*records, Path("results.json"), Path("examples.npz")]:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_a_killed_worker_ends_the_job_and_the_same_command_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = ["train", "quick", "--train-examples", "1000", "--epochs", "10", "--batch", "100", *ONCE]
    job = subprocess.Popen(
        [*TORCHRUN, *asked, "--out", str(folder)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    while not (folder / "checkpoints" / "stage-one.safetensors").exists():
        assert job.poll() is None
        time.sleep(0.1)
    workers = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, told = job.communicate(timeout=120)
    assert job.returncode not in (0, None) and "SIGKILL" in told
    finished = curve(folder)
    assert finished

    again = forked(*asked, "--out", str(folder))
    assert all(each.returncode == 0 for each in again), again
    rows = curve(folder)
    assert len(rows) > len(finished) and rows[: len(finished)] == finished and rows[-1]["stage"] == "second-standard"


def test_parts_of_a_draw_make_the_whole() -> None:
    def stream() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    whole = torch.randn((7, 2), generator=stream())
    parts = []
    for first, count in ((0, 3), (3, 4)):
        with seeds.sharing(seeds.BatchPart(first, 7, stream())):
            parts.append(seeds.normal_like(torch.empty(count, 2)))
    assert torch.equal(torch.cat(parts), whole)
    torch.manual_seed(3)
    assert torch.equal(seeds.normal_like(torch.empty(7, 2)), whole)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RANK": "x"}, "RANK=x: expected a whole number of at least 0"),
        ({"RANK": "-1"}, "RANK=-1: expected a whole number"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE=x: expected a whole number of at least 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: expected a whole number of at least 1"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2: expected less than WORLD_SIZE, which is 2"),
        ({"RANK": "1"}, "RANK=1: expected less than WORLD_SIZE, which is 1"),
        ({"ACCELERATE_USE_CPU": "perhaps"}, "ACCELERATE_USE_CPU"),
    ],
)
def test_an_environment_of_no_job_is_refused(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=expected):
        processes.check_launch()


def test_an_environment_of_no_job_is_one_line() -> None:
    done = command.Running("data", environment={"WORLD_SIZE": "x"}).done()
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "WORLD_SIZE=x" in done.stderr
