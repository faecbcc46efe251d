"""GRFD robust beside PGD-AT and TRADES: does disentangling help a classifier that is trained against its attacker?

Claim: none of the paper's; it is ours to test. x ↦ F(x − G(x)), trained end to end, is compared with PGD-AT (projected
gradient descent, adversarial training) and TRADES at several ε and β, with a control (the same two networks under the
same attack, without any term of GRFD's), and with itself without each of its terms. All spend the same number of
gradients in training.
Cost: `grfd reproduce robust --scale short --dry-run` prints the cost of each cell.
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
from grfd.api import evaluating, fitting
from grfd.api.job import named_data, open_job
from grfd.config import Config, changed
from grfd.data.record import Data, Split
from grfd.defenses import DEFENSES, is_fitted, recipes
from grfd.evaluation.case import SOURCE
from grfd.evaluation.protocols import COMPARED
from grfd.evaluation.request import Request
from grfd.evaluation.stored import JUDGED_AS
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.experiments.records import are_complete
from grfd.experiments.robust.contenders import (
    CONTENDER_SCALES,
    Contender,
    ContenderScale,
    gradients,
    starts_from_stage_one,
)
from grfd.experiments.robust.numbers import (
    CONTENDERS_FILE,
    JUDGED,
    draw_curve,
    in_brief,
    paired_sheet,
    robust_sheet,
)
from grfd.experiments.robust.page_section import draw, section
from grfd.method.stages import stage_one
from grfd.report.sheets import printed, write

__all__ = ["FOLDER", "SCALES", "cells", "cells_of_seed", "draw", "section", "show"]

FOLDER = "robust"
SCALES = tuple(CONTENDER_SCALES)

_NAMED = 5
"""A cell with more contenders has their number in its name instead of their names."""
_STAGE_ONE = "stage-one"
"""In the folder of a seed: one stage I for all contenders that start from it and change no network."""


def _seed_folder(out: Path, scale: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}"


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The standard models, stage I, and the training and evaluation of each contender, for each seed."""
    chosen = replace(CONTENDER_SCALES[scale], config=replace(CONTENDER_SCALES[scale].config, data_dir=data_dir))
    return [cell for seed in range(seeds) for cell in cells_of_seed(_seed_folder(out, scale, seed), chosen, seed)]


def cells_of_seed(folder: Path, scale: ContenderScale, seed: int) -> list[Cell]:
    """The work of one seed: standard models, stage I where a contender starts from it, trainings and evaluations."""
    config = replace(scale.config, seed=seed)
    first, waiting = folder / _STAGE_ONE, partial(_waiting, folder, scale)
    second = folder / SOURCE / "second-standard.safetensors"

    def starting() -> list[str]:
        return [name for name in waiting() if _shares_stage_one(scale.contenders[name])]

    todo = [
        Cell("standard models", lambda: second.exists() or not waiting(),
             partial(variants.train_standard_models, folder / SOURCE, config)),
        Cell("stage I", lambda: (first / "lvcvae.safetensors").exists() or not starting(),
             partial(_stage_one, first, config)),
    ]  # fmt: skip
    for name, contender in scale.contenders.items():
        done, do = partial(_is_done_with, folder, scale, name), partial(_fit, folder, name, config, contender)
        attack = _judging_cell(folder, scale, config, (name,), scale.attacks)
        todo += [Cell(f"train {name}", done, do, independent=True), attack]
    if scale.finalists:
        final = _judging_cell(folder, scale, config, scale.finalists, scale.of_finalists)
        todo.append(final)
    return [replace(cell, name=f"seed {seed}: {cell.name}") for cell in todo]


def _waiting(folder: Path, scale: ContenderScale) -> list[str]:
    """The contenders whose records are not complete. Weights are not asked for, since results/ has only records."""
    late = [name for name in scale.contenders if not _is_judged(folder, scale, (name,), scale.attacks)]
    finals = [name for name in scale.finalists if not _is_judged(folder, scale, (name,), scale.of_finalists)]
    return [name for name in scale.contenders if name in late or name in finals]


def _is_done_with(folder: Path, scale: ContenderScale, name: str) -> bool:
    """Whether a contender is trained, or all records that need it are complete."""
    return _is_fitted(folder / name, scale.contenders[name]) or name not in _waiting(folder, scale)


def _judging_cell(
    folder: Path, scale: ContenderScale, config: Config, names: tuple[str, ...], attacks: tuple[str, ...]
) -> Cell:
    met = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} contenders"
    title = f"{len(attacks)} attack{'s' if len(attacks) > 1 else ''} on {met}, {scale.examples:,} images"
    done = partial(_is_judged, folder, scale, names, attacks)
    check = partial(runs.refuse_another, folder / JUDGED, config)
    return Cell(title, done, partial(_judge, folder, scale, config, names, attacks), check)


def _stage_one(path: Path, config: Config) -> None:
    with runs.locked(path):
        job = fitting.prepare(path, config)
        stage_one(job)


def _is_fitted(path: Path, contender: Contender) -> bool:
    return (path / "config.json").exists() and is_fitted(runs.load(path), contender.defense)


def _fit(folder: Path, name: str, config: Config, contender: Contender) -> None:
    """Trains a contender in a folder of its own, with copies of the standard model and of stage I if it needs them."""
    module = DEFENSES[contender.defense]
    with runs.locked(folder / name):
        job = fitting.prepare(folder / name, changed(config, **contender.changes))
        run = job.run
        channels = job.data.train.images.shape[1]
        recipe = recipes.with_published_values(module.Recipe(**contender.recipe), channels, module.GREY, module.COLOUR)
        recipes.remember(run, contender.defense, recipe)
        shared = [folder / _STAGE_ONE / file for file in ("lvcvae.safetensors", "rsm.safetensors")]
        shared = shared if _shares_stage_one(contender) else []
        if "model" not in contender.changes:  # some fine-tune the standard model, or answer with it
            shared.append(folder / SOURCE / "standard.safetensors")
        for file in shared:
            if not run.has(file.name):
                shutil.copyfile(file, run.file(file.name))
        module.fit(job, recipe)
        variants.delete_derived(run)


def _shares_stage_one(contender: Contender) -> bool:
    return starts_from_stage_one(contender) and not contender.changes


def deployed(path: Path, contender: Contender) -> nn.Module:
    """The trained defense of a contender."""
    return DEFENSES[contender.defense].load(open_job(path))


def _is_judged(folder: Path, scale: ContenderScale, names: tuple[str, ...], attacks: tuple[str, ...]) -> bool:
    file = folder / JUDGED / CONTENDERS_FILE
    listed = file.exists() and set(names) <= json.loads(file.read_text()).keys()
    return listed and all(are_complete(folder / JUDGED, name, "adaptive", attacks, scale.examples) for name in names)


def _judge(
    folder: Path, scale: ContenderScale, config: Config, names: tuple[str, ...], attacks: tuple[str, ...]
) -> None:
    names = tuple(name for name in names if not _is_judged(folder, scale, (name,), attacks))
    models = variants.load_standard_models(folder / SOURCE)
    models |= {name: deployed(folder / name, scale.contenders[name]) for name in names}
    evaluating.evaluate_models(
        models,
        folder / JUDGED,
        Request(COMPARED, attacks, scale.examples),
        _attacked(config, scale),
        sources=(SOURCE,),
        config=config,
    )
    file = folder / JUDGED / CONTENDERS_FILE
    earlier = json.loads(file.read_text()) if file.exists() else {}
    runs.write_json(file, earlier | {name: _about(scale, config, name) for name in names})
    for name in names:
        _tell_where(folder, name, scale.contenders[name].defense)


def _tell_where(folder: Path, name: str, defense: str) -> None:
    """In the folder of a contender: where it was judged, and as what, so that its weights are found with a verdict."""
    with runs.locked(folder / name):
        runs.write_json(folder / name / JUDGED_AS, {"defense": defense, "folder": f"../{JUDGED}", "model": name})


def _about(scale: ContenderScale, config: Config, name: str) -> dict[str, Any]:
    contender = scale.contenders[name]
    spent = {"gradients": gradients(contender, config), "finalist": name in scale.finalists}
    return asdict(contender) | spent


def _attacked(config: Config, scale: ContenderScale) -> Data:
    """The data set. For validation its test images are replaced by training images that no contender has seen."""
    data = named_data(config)
    if not scale.validation:
        return data
    unseen = slice(config.train_examples, None)
    split = Split(data.train.images[unseen], data.train.labels[unseen])
    return replace(data, test=split, source=f"{data.source}; training images from {config.train_examples:,} on")


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The worst cases of all contenders, paired comparisons with the best of ours, and the curve.

    The tables with every attack are also written as .md, .tex and .csv.
    """
    folders = [_seed_folder(out, scale, seed) / JUDGED for seed in range(seeds)]
    whole, paired = robust_sheet(folders), paired_sheet(folders)
    written = [
        path for sheet, name in ((whole, "robust"), (paired, "robust-paired")) for path in write(sheet, out / name)
    ]
    drawn = draw_curve(folders, out / "robust")
    files = f"each attack, transfer: {written[0]}; the curve: {drawn[0]}"
    return [printed(in_brief(whole)), printed(in_brief(paired)), files]
