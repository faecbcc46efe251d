"""What a transferred attack leaves of GRFD and of no defense, by the undefended model that it was made on, on MNIST.

Claim: GRFD keeps 93.69 % on average over the five attacks. The paper names no protocol; its None row is what is known
of the model that its attacks may have been made on. Here that model is trained by the preset's recipe, and by the one
that comes nearest to the paper's None row (`grfd reproduce none-row`).
Cost: `grfd reproduce sources --scale paper --dry-run` says it, cell by cell.
Command: `grfd reproduce sources --scale paper`.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.table import Table
from torch import nn

from grfd import runs
from grfd.api import evaluating as judgement
from grfd.api import fitting as api
from grfd.api.job import open_job
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES, is_fitted, standard
from grfd.evaluation import records
from grfd.evaluation.case import CONTROL, Request
from grfd.experiments.cells import Cell
from grfd.experiments.none_row import RECIPES
from grfd.experiments.paper import PAPER_ATTACKS
from grfd.experiments.sources_section import VICTIMS, folder_of, sources_sheet
from grfd.report.sheets import printed, write

FOLDER = "sources"
SOURCE = "source"


@dataclass(frozen=True)
class Scale:
    """The victims' configuration, the recipes of the sources, and the test images that are attacked."""

    config: Config
    recipes: tuple[str, ...]
    examples: int


_SCALES = {
    "quick": Scale(PRESETS["quick"], ("the preset's", "learning rate 0.01"), 100),
    "paper": Scale(PRESETS["mnist-lenet5"], ("the preset's", "60 epochs at 0.01 in batches of 64"), 1000),
}
SCALES = tuple(_SCALES)
MINUTES = {
    "quick": {"victims": 1.0, "source": 0.1, "attack": 0.5},
    "paper": {"victims": 85.0, "source": 10.0, "attack": 4.0},
}
"""As measured: at the scale "paper" on one core (GRFD's 150 epochs on two), at "quick" on two."""


def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
    """The victims, the sources and the attacks from each source, seed by seed."""
    chosen, minutes, todo = _SCALES[scale], MINUTES[scale], []
    for seed in range(seeds):
        folder, config = out / f"{scale}-seed-{seed}", replace(chosen.config, seed=seed)
        victims = folder / "victims"
        todo.append(Cell(f"seed {seed}: train the victims", minutes["victims"], partial(_has_victims, victims),
                         partial(api.train_run, victims, config)))  # fmt: skip
        for index, recipe in enumerate(chosen.recipes):
            # a seed of its own, or the first source would be the victims' standard model
            path, settings = folder / f"source-{index}", replace(config, seed=seed + 100, **RECIPES[recipe])
            done = partial(_has_source, path)
            todo.append(Cell(f"seed {seed}: train the source, {recipe}", minutes["source"], done,
                             partial(_train, path, settings)))  # fmt: skip
            judged = folder_of(out, scale, seed, recipe)
            todo.append(Cell(f"seed {seed}: attacks from it", minutes["attack"],
                             partial(_is_judged, judged, chosen.examples),
                             partial(_judge, victims, path, judged, chosen.examples)))  # fmt: skip
    return todo


def _has_victims(path: Path) -> bool:
    if not (path / "config.json").exists():
        return False
    run = runs.load(path)
    return is_fitted(run, "grfd") and run.has(f"{CONTROL}.safetensors")


def _has_source(path: Path) -> bool:
    return (path / "config.json").exists() and is_fitted(runs.load(path), "standard")


def _train(path: Path, config: Config) -> None:
    with runs.locked(path):
        job = api.prepare(path, config)
        standard.fit(job)


def _is_judged(folder: Path, examples: int) -> bool:
    paths = [records.path_of(folder, victim, "transfer", attack) for victim in VICTIMS for attack in PAPER_ATTACKS]
    found = [records.read_record(path) for path in paths]
    return all(record is not None and len(record) >= examples for record in found)


def _judge(victims: Path, source: Path, out: Path, examples: int) -> None:
    """The source is attacked white-box besides: that row is to be beside the paper's None."""
    models = {SOURCE: _load(source, "standard")} | {name: _load(victims, name) for name in VICTIMS}
    config = runs.load(victims).config
    judgement.evaluate_models(
        models, out, Request(("transfer",), PAPER_ATTACKS, examples), sources=(SOURCE,), config=config
    )
    alone = {SOURCE: models[SOURCE]}
    judgement.evaluate_models(
        alone, out, Request(("whitebox",), PAPER_ATTACKS, examples), sources=(SOURCE,), config=config
    )


def _load(path: Path, name: str) -> nn.Module:
    job = open_job(path)
    return standard.load_second(job) if name == "undefended" else DEFENSES[name].load(job)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """Source by source what its attacks leave, beside the paper; the same in sources.md, .tex and .csv."""
    found = {
        recipe: [folder_of(out, scale, seed, recipe) for seed in range(seeds)] for recipe in _SCALES[scale].recipes
    }
    sheet = sources_sheet(found)
    write(sheet, out / "sources")
    return [printed(sheet), f"written {out / 'sources.md'}, .tex and .csv"]
