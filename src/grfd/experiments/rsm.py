"""The RSM sighting on MNIST: is f_φ(x − G(x)) ever robust end to end, or only masked where stage I went unstable?

Claim: none of the paper's, which deploys F. A prototype saw the RSM keep 91 to 93 % under white-box attacks after a
stage I that had diverged (cosine over cross-entropy gradients), and little after a stable one. Here both are attacked
by all that the engine has, gradient-free and transferred examples included, at ε from 0.1 to 0.5, where every image can
be made grey.
Cost: `grfd reproduce rsm --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce rsm --scale short --seeds 3`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from grfd.api import evaluating as judgement
from grfd.config import PRESETS, Config
from grfd.evaluation import records
from grfd.evaluation.case import CONTROL, SOURCE, Request
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.rsm_section import EPSILONS, folder_at, rsm_sheet
from grfd.experiments.variants import Schedule
from grfd.report.sheets import printed, write

FOLDER = "rsm"

SCHEDULES: dict[str, Schedule] = {
    "quick": Schedule(
        Config(epochs=1, classifier_epochs=1, train_examples=12_000), 20, ("fgsm", "pgd", "square"), 0.07, 0.3, 0.1
    ),
    "short": Schedule(Config(epochs=12, classifier_epochs=3), 200, ("fgsm", "pgd", "aa", "square"), 4.8, 1.1, 0.3),
    "paper": Schedule(replace(PRESETS["mnist-lenet5"], learning_rate=1e-3), 1000, ("fgsm", "pgd", "aa", "square")),
}
"""All at the learning rate of 0.001, at which stage I was seen to leave its course."""
SCALES = tuple(SCHEDULES)

STAGES: dict[str, dict[str, Any]] = {"margin": {}, "cross-entropy": {"gradient_of": "cross_entropy"}}
"""What eq. 5 differentiates → the change of the configuration."""


def folder_of(out: Path, scale: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}"


def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
    """Two stages I, and the attacks at each ε, seed by seed."""
    schedule, todo = SCHEDULES[scale], []
    for seed in range(seeds):
        folder, config = folder_of(out, scale, seed), replace(schedule.config, seed=seed)
        standard = variants.standard_cell(folder, schedule, seed)
        todo.append(replace(standard, done=partial(_is_done_with, folder, schedule, standard.done)))
        for name, changes in STAGES.items():
            done = partial(_is_done_with, folder, schedule, partial(variants.is_trained, folder / name))
            do = partial(variants.train_variant, folder / name, replace(config, **changes))
            todo.append(Cell(f"seed {seed}: train {name}", schedule.training, done, do))
        for eps in EPSILONS:
            done, do = partial(_is_attacked, folder, schedule, eps), partial(_attack, folder, schedule, config, eps)
            todo.append(Cell(f"seed {seed}: attacks at ε = {eps:g}", schedule.judging, done, do))
    return todo


def _is_done_with(folder: Path, schedule: Schedule, trained: Callable[[], bool]) -> bool:
    """Whether a training is there, or nobody needs it any more (a copy in results/ has records and no weights)."""
    return trained() or all(_is_attacked(folder, schedule, eps) for eps in EPSILONS)


def _is_attacked(folder: Path, schedule: Schedule, eps: float) -> bool:
    paths = [
        records.path_of(folder_at(folder, eps), f"rsm-{name}", "adaptive", attack)
        for name in STAGES
        if not (folder / name / "diverged.json").exists()
        for attack in schedule.attacks
    ]
    found = [records.read_record(path) for path in paths]
    return all(record is not None and len(record) >= schedule.examples for record in found)


def _attack(folder: Path, schedule: Schedule, config: Config, eps: float) -> None:
    """Transferred examples come from the standard model and from the deployed F behind the same LVCVAE."""
    models = variants.load_standard_models(folder / SOURCE)
    del models[CONTROL]
    for name in STAGES:
        if not (folder / name / "diverged.json").exists():
            models |= {f"target-{name}": variants.load_deployed(folder / name),
                       f"rsm-{name}": variants.load_deployed(folder / name, "rsm")}  # fmt: skip
    judgement.evaluate_models(
        models,
        folder_at(folder, eps),
        Request(("transfer", "whitebox", "adaptive"), schedule.attacks, schedule.examples, eps),
        sources=tuple(name for name in models if not name.startswith("rsm")),
        config=config,
    )


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """Accuracy by ε and attack; the same in rsm.md, .tex and .csv."""
    sheet = rsm_sheet([folder_of(out, scale, seed) for seed in range(seeds)])
    write(sheet, out / "rsm")
    return [printed(sheet), f"written {out / 'rsm.md'}, .tex and .csv"]
