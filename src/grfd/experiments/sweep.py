"""`grfd sweep`: the whole grid of Table 2, ε, γ in 0…0.7 and δ in 0…1.4, by as many workers as there are machines.

Claim: the paper looked for ε, γ and δ on this grid, and prints eleven of its 512 points.
Cost: a point is one training and one judgement (`grfd sweep --dry-run` counts them).
Command: `grfd sweep --scale short`; docs/sweeps.md says how machines join.

The study (optuna) is the queue and the table of results. The worker that makes it puts every point in, once; each
worker takes the next one. GridSampler would hand the same point to two workers at once, so it is not used.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
import torch
from optuna.trial import TrialState

from grfd import runs
from grfd.api.job import load_data
from grfd.attacks import ALL_ATTACKS
from grfd.errors import Busy, UserError
from grfd.evaluation.case import SOURCE, Case, budgets_for
from grfd.evaluation.judge import attack_all
from grfd.evaluation.numbers import grid, rows
from grfd.evaluation.request import Request
from grfd.experiments import database, variants
from grfd.experiments.variants import Schedule, Variant, differing_fields, variant_config, variant_name, variants_folder
from grfd.progress import side, titled
from grfd.report.sheets import Sheet

Point = dict[str, float]
GRID: dict[str, tuple[float, ...]] = {
    "epsilon": tuple(step / 10 for step in range(8)),
    "gamma": tuple(step / 10 for step in range(8)),
    "delta": tuple(step / 5 for step in range(8)),
}
"""As section 4.2 of the paper says."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
OBJECTIVES: dict[str, tuple[str, ...]] = {"worst": ("worst",), "clean-and-worst": ("none", "worst")}
"""What is maximised: under `adaptive`, the worst case, or clean accuracy ("none") and the worst case."""
BEAT = 30
"""Seconds between two signs of life of a worker; one that gives none for four of them is taken for dead."""
SHOWN = 10


@dataclass(frozen=True)
class Sweep:
    """What the workers of one study have in common."""

    out: Path
    scale: str
    seed: int
    storage: str
    study: str
    objective: Literal["worst", "clean-and-worst"] = "worst"
    pruner: Literal["none", "median"] = "none"
    beat: int = BEAT

    @property
    def schedule(self) -> Schedule:
        """That of the scale, with A3 in the place of AutoAttack: as strong, and many times cheaper."""
        scheduled = variants.SCHEDULES[self.scale]
        return replace(scheduled, attacks=tuple("a3" if name == "aa" else name for name in scheduled.attacks))

    @property
    def folder(self) -> Path:
        return variants_folder(self.out, self.scale, self.seed)


class Surplus(Exception):
    """A trial that no point stands behind, or one that another trial has done: two workers asked at once."""


def points(**asked: Sequence[float]) -> list[Point]:
    """The grid, or the part of it that is asked for. Raises `UserError` for a value that is not on it."""
    for name, values in asked.items():
        for value in values:
            if value not in GRID[name]:
                raise UserError(f"{name} {value:g}: expected of {', '.join(f'{each:g}' for each in GRID[name])}")
    axes = [tuple(asked.get(name) or GRID[name]) for name in GRID]
    return [dict(zip(GRID, values, strict=True)) for values in itertools.product(*axes)]


def checked_sweep(sweep: Sweep) -> Sweep:
    """The same. Raises `UserError` for what cannot be run."""
    if sweep.scale not in variants.SCHEDULES:
        raise UserError(f"unknown scale {sweep.scale!r}: expected one of {', '.join(variants.SCHEDULES)}")
    if sweep.pruner != "none" and len(OBJECTIVES[sweep.objective]) > 1:
        raise UserError("a pruner needs one objective: choose --objective worst, or --pruner none")
    return sweep


def opened(sweep: Sweep, todo: list[Point]) -> optuna.Study:
    """The study; whoever makes it puts the points in, the others wait for that. Raises `UserError`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.logging.disable_propagation()
    if sweep.storage == default_storage(sweep.out):
        _make(sweep.out)
    storage = database.connected(sweep.storage, sweep.beat)
    wanted: Any = {"study_name": sweep.study, "storage": storage}
    pruner = optuna.pruners.MedianPruner() if sweep.pruner == "median" else optuna.pruners.NopPruner()
    common: Any = {"pruner": pruner, "sampler": optuna.samplers.RandomSampler()}
    try:
        study = optuna.create_study(**wanted, **common, directions=["maximize"] * len(OBJECTIVES[sweep.objective]))
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(**wanted, **common)
        _wait_until_filled(study, sweep.beat)
    else:
        study.set_user_attr("settings", _settings(sweep))
        _enqueue(study, todo)
        study.set_user_attr("filled", True)
    return _of_these_settings(sweep, study)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error


def _of_these_settings(sweep: Sweep, study: optuna.Study) -> optuna.Study:
    if study.user_attrs.get("settings", _settings(sweep)) != _settings(sweep):
        raise UserError(f"study {sweep.study!r} is of {study.user_attrs['settings']}: choose another --study")
    return study


def known(sweep: Sweep) -> dict[str, int] | None:
    """How many points of the study are in which state (`state`); None where there is no study. Makes nothing."""
    if sweep.storage.startswith("sqlite:///") and not Path(sweep.storage.removeprefix("sqlite:///")).exists():
        return None
    try:
        study = optuna.load_study(study_name=sweep.study, storage=database.connected(sweep.storage, sweep.beat))
    except KeyError:
        return None
    return state(_of_these_settings(sweep, study))


def _settings(sweep: Sweep) -> dict[str, Any]:
    return {"scale": sweep.scale, "seed": sweep.seed, "objective": sweep.objective}


def _wait_until_filled(study: optuna.Study, beat: int) -> None:
    """A worker that died while it filled the queue is not waited for: what is missing is put in later."""
    for _ in range(4 * beat):
        if study.user_attrs.get("filled"):
            return
        time.sleep(1)


def _enqueue(study: optuna.Study, todo: list[Point]) -> None:
    for point in todo:
        study.enqueue_trial(point)


def point_of(trial: optuna.trial.FrozenTrial) -> tuple[float, ...]:
    """The trial's point, also before its parameters are set; empty where none stands behind it."""
    known = trial.params or trial.system_attrs.get("fixed_params", {})
    return tuple(known[name] for name in GRID if name in known)


def ended(study: optuna.Study) -> set[tuple[float, ...]]:
    return {point_of(trial) for trial in study.get_trials(deepcopy=False, states=ENDED)}


def work(sweep: Sweep, study: optuna.Study, todo: list[Point], trials: int | None = None) -> int:
    """Takes points until none is left, or `trials` of them. Returns how many.

    A point whose worker died is put back in the queue when its signs of life have stopped, so an empty queue is left
    only when no other worker runs.
    """
    done = 0
    while trials is None or done < trials:
        with database.experimental():
            optuna.storages.fail_stale_trials(study)
        states = Counter(trial.state for trial in study.get_trials(deepcopy=False))
        missing = [point for point in todo if tuple(point.values()) not in ended(study)]
        if states[TrialState.WAITING]:
            study.optimize(lambda trial: _tried(sweep, study, trial), n_trials=1, catch=(Surplus,))
            done += 1
        elif states[TrialState.RUNNING]:
            side.print(f"waiting: {states[TrialState.RUNNING]} points are with other workers")
            time.sleep(sweep.beat)
        elif missing:
            _enqueue(study, missing)
        else:
            break
    return done


def _tried(sweep: Sweep, study: optuna.Study, trial: optuna.Trial) -> float | tuple[float, ...]:
    """One point: trained, attacked, its numbers kept with the trial. Returns what is maximised."""
    mine = study.get_trials(deepcopy=False)[trial.number]
    others = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
    taken = {point_of(each) for each in others if each.state in ENDED
             or (each.state is TrialState.RUNNING and each.number < trial.number)}  # fmt: skip
    if not point_of(mine) or point_of(mine) in taken:
        raise Surplus
    point = {name: float(trial.suggest_categorical(name, values)) for name, values in GRID.items()}
    told = ", ".join(f"{name} {value:g}" for name, value in point.items())
    side.print(titled(f"point {trial.number}", f" {told}"))
    variant = Variant(dict(point))
    run = sweep.folder / variant_name(sweep.schedule, variant)
    plain = variant_config(sweep.schedule, sweep.seed, Variant())
    _alone(lambda: variants.train_standard_models(sweep.folder / SOURCE, plain))
    if not variants.is_trained(run):
        _alone(lambda: variants.train_variant(run, variant_config(sweep.schedule, sweep.seed, variant)))
    trial.set_user_attr("changes", differing_fields(sweep.schedule, variant))
    if (run / "diverged.json").exists():
        trial.set_user_attr("diverged", True)
        raise optuna.TrialPruned
    found = _judged(sweep, trial, run)
    for protocol, numbers in found.items():
        trial.set_user_attr(protocol, numbers)
    values = tuple(found["adaptive"][name] for name in OBJECTIVES[sweep.objective])
    return values if len(values) > 1 else values[0]


def _alone(do: Callable[[], object]) -> None:
    """Does what needs a folder of which another worker may be the writer just now."""
    while True:
        try:
            do()
            return
        except Busy:
            time.sleep(1)


def _judged(sweep: Sweep, trial: optuna.Trial, run: Path) -> dict[str, dict[str, float]]:
    """Protocol → attack → accuracy. The cheapest attack comes first, so that a pruner can save the expensive ones."""
    folder = sweep.folder / "sweep" / run.name
    data = load_data(runs.load(run))
    models = variants.load_standard_models(sweep.folder / SOURCE) | {"grfd": variants.load_deployed(run)}
    budgets = budgets_for(data.test.images.shape[1])
    case = Case(folder, models, data.test, budgets, sweep.seed, torch.device("cpu"), (SOURCE,))
    attacks = sorted(sweep.schedule.attacks, key=lambda name: ALL_ATTACKS[name].passes)
    for step, attack in enumerate(attacks):
        with runs.locked(folder, run=False):
            attack_all(case, Request(variants.COMPARED, (attack,), sweep.schedule.examples))
        if sweep.pruner != "none":
            trial.report(_numbers(folder)["adaptive"]["worst"], step)
            if trial.should_prune():
                raise optuna.TrialPruned
    return _numbers(folder)


def _numbers(folder: Path) -> dict[str, dict[str, float]]:
    found = grid(rows(folder))
    return {protocol: {name: row.accuracy for name, row in cells.items()}
            for (protocol, model), cells in found.items() if model == "grfd"}  # fmt: skip


def state(study: optuna.Study) -> dict[str, int]:
    """How many points are in which state; trials without a point, and those that were put back, are not counted."""
    latest: dict[tuple[float, ...], TrialState] = {}
    for trial in study.get_trials(deepcopy=False):
        if point_of(trial) and latest.get(point_of(trial)) not in ENDED:
            latest[point_of(trial)] = trial.state
    counted = Counter(each.name.lower() for each in latest.values())
    return {name: counted[name] for name in ("complete", "pruned", "running", "waiting", "fail")}


def best(study: optuna.Study, objective: str) -> Sheet:
    """The best points, or the Pareto front, each with its numbers in per cent."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(OBJECTIVES[objective]) > 1:
        chosen = sorted(study.best_trials, key=lambda trial: -trial.values[0])
        title = "No point is better in both clean accuracy and worst case"
    else:
        chosen = sorted(complete, key=lambda trial: (-trial.values[0], trial.number))[:SHOWN]
        title = f"The best {len(chosen)} of {len(complete)} points by worst case under adaptive"
    lines = []
    for trial in chosen:
        numbers = [trial.user_attrs["adaptive"]["none"], *(trial.user_attrs[name]["worst"] for name in
                   ("transfer", "whitebox", "adaptive"))]  # fmt: skip
        lines.append([*(f"{value:g}" for value in point_of(trial)), *(f"{100 * value:.1f}" for value in numbers)])
    header = ["ε", "γ", "δ", "clean", "transfer, worst", "whitebox, worst", "adaptive, worst"]
    return Sheet(header, lines, title, left=3)


def default_storage(out: Path) -> str:
    """A file of SQLite in the folder."""
    return f"sqlite:///{(out / 'sweep.db').resolve()}"
