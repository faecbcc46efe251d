"""GRFD robust beside PGD-AT and TRADES: does disentangling help a classifier that is trained against its attacker?

Claim: none of the paper's; ours to test. x ↦ F(x − G(x)), trained end to end, is set beside PGD-AT and TRADES at
several ε and β, beside a control of the same two networks under the same attack without any term of GRFD's, and beside
itself with each term left out, at the same number of gradients in training.
Cost: `grfd reproduce robust --scale short --dry-run` says it, cell by cell.
Command: `grfd reproduce robust --scale short --seeds 3`; `grfd reproduce robust --dataset cifar10 --scale small`.
"""

import json
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import nn

from grfd import runs
from grfd.api import evaluating as judgement
from grfd.api import fitting as api
from grfd.api.job import named_data, open_job
from grfd.config import Config, changed
from grfd.data.record import Data, Split
from grfd.defenses import DEFENSES, is_fitted, recipes
from grfd.evaluation import records
from grfd.evaluation.case import SOURCE, Request
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.robust import contenders
from grfd.experiments.robust.contenders import ATTACKS_OF_FINALISTS, Contender, Scale, gradients, starts_from_stage_one
from grfd.experiments.robust.numbers import CONTENDERS, PROTOCOLS, draw_curve, in_brief, paired_sheet, robust_sheet
from grfd.method.stages import stage_one
from grfd.report.sheets import printed, write

FOLDER = "robust"
JUDGED = "judged"
STAGE_ONE = "stage-one"
"""Below a seed's folder: one for all contenders that start from it and change no network."""
_SCALES = contenders.SCALES
SCALES = tuple(_SCALES)


def folder_of(out: Path, scale: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}"


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """Standard models, stage I, every contender's training and judgement, and the finalists', seed by seed."""
    chosen = replace(_SCALES[scale], config=replace(_SCALES[scale].config, data_dir=data_dir))
    return [cell for seed in range(seeds) for cell in _of_seed(folder_of(out, scale, seed), chosen, seed)]


def _of_seed(folder: Path, scale: Scale, seed: int) -> list[Cell]:
    config, minutes = replace(scale.config, seed=seed), scale.minutes
    first, waiting = folder / STAGE_ONE, partial(_waiting, folder, scale)
    second = folder / SOURCE / "second-standard.safetensors"

    def starting() -> list[str]:
        return [name for name in waiting() if _shares_stage_one(scale.contenders[name])]

    todo = [
        Cell("standard models", minutes.get("standard"), lambda: second.exists() or not waiting(),
             partial(variants.train_standard_models, folder / SOURCE, config)),
        Cell("stage I", minutes.get("stage I"), lambda: (first / "lvcvae.safetensors").exists() or not starting(),
             partial(_stage_one, first, config)),
    ]  # fmt: skip
    for name, contender in scale.contenders.items():
        done, do = partial(_is_done_with, folder, scale, name), partial(_fit, folder, name, config, contender)
        attack = _judgement(folder, scale, config, (name,), scale.attacks, minutes.get("attack"))
        todo += [Cell(f"train {name}", minutes.get("train"), done, do), attack]
    if scale.finalists:
        final = _judgement(folder, scale, config, scale.finalists, ATTACKS_OF_FINALISTS, minutes.get("final"))
        todo.append(final)
    return [replace(cell, name=f"seed {seed}: {cell.name}") for cell in todo]


def _waiting(folder: Path, scale: Scale) -> list[str]:
    """Those that some attack has not met yet. The records are enough: a copy in results/ needs no weights."""
    late = [name for name in scale.contenders if not _is_judged(folder, scale, (name,), scale.attacks)]
    finals = [name for name in scale.finalists if not _is_judged(folder, scale, (name,), ATTACKS_OF_FINALISTS)]
    return [name for name in scale.contenders if name in late or name in finals]


def _is_done_with(folder: Path, scale: Scale, name: str) -> bool:
    """Whether a training is there, or nobody needs it any more."""
    return _is_fitted(folder / name, scale.contenders[name]) or name not in _waiting(folder, scale)


def _judgement(
    folder: Path,
    scale: Scale,
    config: Config,
    names: tuple[str, ...],
    attacks: tuple[str, ...],
    minutes: float | None,
) -> Cell:
    title = f"{len(attacks)} attacks on {', '.join(names)}, {scale.examples:,} images"
    done = partial(_is_judged, folder, scale, names, attacks)
    check = partial(runs.refuse_another, folder / JUDGED, config)
    return Cell(title, minutes, done, partial(_judge, folder, scale, config, names, attacks), check)


def _stage_one(path: Path, config: Config) -> None:
    with runs.locked(path):
        job = api.prepare(path, config)
        stage_one(job)


def _is_fitted(path: Path, contender: Contender) -> bool:
    return (path / "config.json").exists() and is_fitted(runs.load(path), contender.defense)


def _fit(folder: Path, name: str, config: Config, contender: Contender) -> None:
    """In a folder of its own, with a copy of the seed's stage I where it starts from one."""
    module = DEFENSES[contender.defense]
    with runs.locked(folder / name):
        job = api.prepare(folder / name, changed(config, **contender.changes))
        run = job.run
        channels = job.data.train.images.shape[1]
        recipe = recipes.with_published_values(module.Recipe(**contender.recipe), channels, module.GREY, module.COLOUR)
        recipes.remember(run, contender.defense, recipe)
        for file in ("lvcvae.safetensors", "rsm.safetensors"):
            if _shares_stage_one(contender) and not run.has(file):
                shutil.copyfile(folder / STAGE_ONE / file, run.file(file))
        module.fit(job, recipe)
        variants.delete_derived(run)


def _shares_stage_one(contender: Contender) -> bool:
    return starts_from_stage_one(contender) and not contender.changes


def _deployed(path: Path, contender: Contender) -> nn.Module:
    return DEFENSES[contender.defense].load(open_job(path))


def _is_judged(folder: Path, scale: Scale, names: tuple[str, ...], attacks: tuple[str, ...]) -> bool:
    paths = [records.path_of(folder / JUDGED, name, "adaptive", attack) for name in names for attack in attacks]
    found = [records.read_record(path) for path in paths]
    file = folder / JUDGED / CONTENDERS
    told = file.exists() and set(names) <= json.loads(file.read_text()).keys()
    return told and all(record is not None and len(record) >= scale.examples for record in found)


def _judge(folder: Path, scale: Scale, config: Config, names: tuple[str, ...], attacks: tuple[str, ...]) -> None:
    names = tuple(name for name in names if not _is_judged(folder, scale, (name,), attacks))
    models = variants.load_standard_models(folder / SOURCE)
    models |= {name: _deployed(folder / name, scale.contenders[name]) for name in names}
    judgement.evaluate_models(
        models,
        folder / JUDGED,
        Request(PROTOCOLS, attacks, scale.examples),
        _attacked(config, scale),
        sources=(SOURCE,),
        config=config,
    )
    file = folder / JUDGED / CONTENDERS
    earlier = json.loads(file.read_text()) if file.exists() else {}
    runs.write_json(file, earlier | {name: _about(scale, config, name) for name in names})


def _about(scale: Scale, config: Config, name: str) -> dict[str, Any]:
    contender = scale.contenders[name]
    spent = {"gradients": gradients(contender, config), "finalist": name in scale.finalists}
    return asdict(contender) | spent


def _attacked(config: Config, scale: Scale) -> Data:
    """The data set, with training images that no contender has seen in the test images' place for validation."""
    data = named_data(config)
    if not scale.validation:
        return data
    unseen = slice(config.train_examples, None)
    split = Split(data.train.images[unseen], data.train.labels[unseen])
    return replace(data, test=split, source=f"{data.source}; training images from {config.train_examples:,} on")


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """All contenders in the worst case, paired comparisons with the best of ours, and the curve.

    Writes the tables, each attack in them, as .md, .tex and .csv.
    """
    folders = [folder_of(out, scale, seed) / JUDGED for seed in range(seeds)]
    whole, paired = robust_sheet(folders), paired_sheet(folders)
    written = [
        path for sheet, name in ((whole, "robust"), (paired, "robust-paired")) for path in write(sheet, out / name)
    ]
    drawn = draw_curve(folders, out / "robust")
    files = f"each attack, transfer: {written[0]}; the curve: {drawn[0]}"
    return [printed(in_brief(whole)), printed(in_brief(paired)), files]
