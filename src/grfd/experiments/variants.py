"""Variants of GRFD: one common schedule with some fields changed, for Table 2, Figures 2 to 4 and the readings.

All experiments share one folder for each scale and seed, so that a variant that several of them need is trained and
judged only once. It holds the two undefended models (`standard/`), one run folder for each variant, and the records of
all variants (`judged/`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from grfd import runs
from grfd.api import evaluating, fitting
from grfd.api.job import named_data, open_job
from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import PRESETS, Config
from grfd.defenses import grfd as grfd_defense
from grfd.defenses import standard
from grfd.errors import Diverged
from grfd.evaluation.case import CONTROL, SOURCE
from grfd.evaluation.protocols import COMPARED
from grfd.evaluation.request import Request
from grfd.experiments.cells import Cell
from grfd.experiments.records import are_complete, metrics_of
from grfd.experiments.variant_records import VARIANTS_FILE, VariantRecords, read_variants
from grfd.method.stages import load_generator
from grfd.runs import Run
from grfd.training.classification import load_classifier

FOLDER = "variants"
"""The folder in runs/ that all experiments on variants share."""
JUDGED_VARIANTS = "judged"
"""The folder of all records below the folder of a seed."""


@dataclass(frozen=True)
class Variant:
    """The fields of `Config` that differ from the schedule's, and the network that is deployed behind the LVCVAE."""

    changes: dict[str, Any] = field(default_factory=dict)
    deployed: Literal["target", "rsm"] = "target"


@dataclass(frozen=True)
class Schedule:
    """The common configuration, the number of test images, and the attacks on them."""

    config: Config
    examples: int
    attacks: tuple[str, ...] = TABLE_1_ATTACKS


SCHEDULES: dict[str, Schedule] = {
    "quick": Schedule(Config(epochs=1, classifier_epochs=1, train_examples=12_000), 50, ("fgsm", "pgd")),
    "short": Schedule(Config(epochs=3, classifier_epochs=3), 200),
    "paper": Schedule(PRESETS["mnist-lenet5"], 1000),
    "cifar10-small": Schedule(PRESETS["cifar10-small"], 100),
    "cifar100-small": Schedule(PRESETS["cifar100-small"], 100),
}
SCALES = tuple(SCHEDULES)


def schedule_of(scale: str, data_dir: Path | None = None) -> Schedule:
    """The schedule of a scale, with the data set read from `data_dir`."""
    schedule = SCHEDULES[scale]
    return replace(schedule, config=replace(schedule.config, data_dir=data_dir))


def variant_config(schedule: Schedule, seed: int, variant: Variant) -> Config:
    """The configuration with which a variant is trained."""
    return replace(schedule.config, seed=seed, **variant.changes)


def differing_fields(schedule: Schedule, variant: Variant) -> dict[str, Any]:
    """The changes that differ from the schedule, in the order of the fields of `Config`."""
    names = [each.name for each in fields(Config) if each.name in variant.changes]
    return {name: variant.changes[name] for name in names if variant.changes[name] != getattr(schedule.config, name)}


def variant_name(schedule: Schedule, variant: Variant) -> str:
    """The name of the run folder, the same for the same configuration: "default", or what differs from it."""
    changes = "-".join(f"{name}-{value}" for name, value in differing_fields(schedule, variant).items()) or "default"
    return changes if variant.deployed == "target" else f"{changes}-with-rsm"


def variants_folder(out: Path, scale: str, seed: int) -> Path:
    """The folder of all variants of a scale and a seed."""
    return out / f"{scale}-seed-{seed}"


def cells(out: Path, scale: str, seeds: int, variants: Sequence[Variant], data_dir: Path | None = None) -> list[Cell]:
    """The training of each variant, and one evaluation of all of them, for each seed."""
    schedule = schedule_of(scale, data_dir)
    return [
        cell
        for seed in range(seeds)
        for cell in variant_cells(variants_folder(out, scale, seed), schedule, seed, variants)
    ]


def variant_cells(folder: Path, schedule: Schedule, seed: int, variants: Sequence[Variant]) -> list[Cell]:
    """The trainings and the evaluation of variants, in the folder of a seed."""
    waiting = partial(_waiting, folder, schedule, variants)
    standard_models = standard_cell(folder, schedule, seed)
    todo = [replace(standard_models, done=lambda: standard_models.done() or not waiting())]
    for name, config in _trainings(schedule, seed, variants).items():
        done = partial(_is_done_with, folder, schedule, variants, name)
        do = partial(train_variant, folder / name, config)
        todo.append(Cell(f"seed {seed}: train {name}", done, do, independent=True))
    title = f"seed {seed}: judge {len(variants)} variants, {schedule.examples} images"
    do = partial(_judge, folder, schedule, seed, variants)
    check = partial(runs.refuse_another, folder / JUDGED_VARIANTS, variant_config(schedule, seed, Variant()))
    return [*todo, Cell(title, lambda: not waiting(), do, check)]


def _is_done_with(folder: Path, schedule: Schedule, variants: Sequence[Variant], name: str) -> bool:
    """Whether a variant is trained, or all records that need it are complete."""
    return is_trained(folder / name) or name not in _trainings(schedule, 0, _waiting(folder, schedule, variants))


def standard_cell(folder: Path, schedule: Schedule, seed: int) -> Cell:
    """The training of the two undefended models of a seed."""
    do = partial(train_standard_models, folder / SOURCE, variant_config(schedule, seed, Variant()))
    return Cell(f"seed {seed}: standard models", partial(_has_standard, folder), do)


def _trainings(schedule: Schedule, seed: int, variants: Sequence[Variant]) -> dict[str, Config]:
    """Run folder → configuration. Variants that differ only in the deployed network share one training."""
    plain = [replace(variant, deployed="target") for variant in variants]
    return {variant_name(schedule, each): variant_config(schedule, seed, each) for each in plain}


def _has_standard(folder: Path) -> bool:
    return (folder / SOURCE / f"{CONTROL}.safetensors").exists()


def train_standard_models(path: Path, config: Config) -> None:
    """Trains the two undefended models of a seed."""
    with runs.locked(path):
        job = fitting.prepare(path, config)
        standard.fit(job)
        standard.fit_second(job)


def is_trained(path: Path) -> bool:
    """Whether a training has ended, with a target model or with a loss that was no longer finite."""
    return (path / "target.safetensors").exists() or (path / "diverged.json").exists()


def train_variant(path: Path, config: Config) -> None:
    """Stages I to III. If a loss is no longer finite, that is a result too, and diverged.json says where."""
    with runs.locked(path):
        job = fitting.prepare(path, config)
        run = job.run
        try:
            grfd_defense.fit(job)
        except Diverged as error:
            runs.write_json(path / "diverged.json", {"said": str(error)})
        delete_derived(run)


def delete_derived(run: Run) -> None:
    """Deletes what can be computed again from the weights: hundreds of megabytes for each variant."""
    for file in [run.file("robust.safetensors"), *run.path.glob("checkpoints/*.safetensors")]:
        file.unlink(missing_ok=True)


def load_deployed(path: Path, what: Literal["target", "rsm"] = "target") -> nn.Module:
    """x ↦ F(x − G(x)), or f_φ(x − G(x)) with the RSM in F's place."""
    job = open_job(path)
    if what == "target":
        return grfd_defense.load(job)
    generator, rsm = load_generator(job.run, job.data), load_classifier(job, "rsm")
    return grfd_defense.GRFD(generator, rsm, kind=job.run.config.robust_part).eval()


def load_standard_models(path: Path) -> dict[str, nn.Module]:
    """The two undefended models, by name."""
    job = open_job(path)
    return {name: load_classifier(job, name) for name in (SOURCE, CONTROL)}


def _finite(folder: Path, schedule: Schedule, variants: Sequence[Variant]) -> dict[str, Variant]:
    """Name → variant, without those whose training diverged."""
    named = {variant_name(schedule, variant): variant for variant in variants}
    plain = {name: folder / variant_name(schedule, replace(each, deployed="target")) for name, each in named.items()}
    return {name: each for name, each in named.items() if not (plain[name] / "diverged.json").exists()}


def _waiting(folder: Path, schedule: Schedule, variants: Sequence[Variant]) -> list[Variant]:
    """The variants whose records are not complete. Weights are not asked for, since results/ has only records."""
    return [
        each for each in variants if not _is_judged(folder / JUDGED_VARIANTS, schedule, variant_name(schedule, each))
    ]


def _is_judged(folder: Path, schedule: Schedule, name: str) -> bool:
    about = json.loads((folder / VARIANTS_FILE).read_text()).get(name) if (folder / VARIANTS_FILE).exists() else None
    if about is None or "said" in about:
        return about is not None
    return are_complete(folder, name, "adaptive", schedule.attacks, schedule.examples)


def _judge(folder: Path, schedule: Schedule, seed: int, variants: Sequence[Variant]) -> None:
    waiting = _waiting(folder, schedule, variants)
    models = load_standard_models(folder / SOURCE)
    for name, variant in _finite(folder, schedule, waiting).items():
        run = folder / variant_name(schedule, replace(variant, deployed="target"))
        models[name] = load_deployed(run, variant.deployed)
    config = variant_config(schedule, seed, Variant())
    evaluating.evaluate_models(
        models,
        folder / JUDGED_VARIANTS,
        Request(COMPARED, schedule.attacks, schedule.examples),
        named_data(config),
        sources=(SOURCE,),
        config=config,
    )
    file = folder / JUDGED_VARIANTS / VARIANTS_FILE
    earlier = json.loads(file.read_text()) if file.exists() else {}
    runs.write_json(file, earlier | {variant_name(schedule, each): _about(folder, schedule, each) for each in waiting})


def _about(folder: Path, schedule: Schedule, variant: Variant) -> dict[str, Any]:
    """What a variant changes, how its stage I ended, how long its stages took, and how it diverged, if it did."""
    run = folder / variant_name(schedule, replace(variant, deployed="target"))
    lines = metrics_of(run)  # none where the first epoch diverged
    last = [line for line in lines if line["stage"] == "stage-one"][-1:]
    about: dict[str, Any] = {"changes": differing_fields(schedule, variant), "deployed": variant.deployed}
    about |= {"stage_one": last[0] if last else None, "seconds": sum(line["seconds"] for line in lines)}
    broken = run / "diverged.json"
    return about | (json.loads(broken.read_text()) if broken.exists() else {})


def read_judged(out: Path, scale: str, seeds: int) -> VariantRecords:
    """The records of all seeds in a folder of runs."""
    return read_variants([variants_folder(out, scale, seed) / JUDGED_VARIANTS for seed in range(seeds)])
