"""How the source of transferred attacks decides what they leave of GRFD and of an undefended model, on MNIST.

Claim: GRFD keeps 93.69 % on average over the five attacks. The paper names no protocol. All that is known of the model
on which its attacks may have been made is the None row. Here that model is trained by the preset's recipe, and by the
recipe that comes nearest to the paper's None row (`grfd reproduce none-row`).
Cost: `grfd reproduce sources --scale paper --dry-run` prints the cost of each cell.
Command: `grfd reproduce sources --scale paper`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.table import Table
from torch import nn

from grfd import runs
from grfd.api import evaluating, fitting
from grfd.api.job import open_job
from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES, is_fitted, standard
from grfd.evaluation.case import CONTROL
from grfd.evaluation.numbers import column_titles, grid, rows
from grfd.evaluation.request import Request
from grfd.evaluation.spread import averages_text, cell_text
from grfd.experiments.cells import Cell
from grfd.experiments.none_row import RECIPES, recipe_of_slug, recipe_slug
from grfd.experiments.paper import PAPER_ATTACKS, TABLE_3
from grfd.experiments.records import are_complete
from grfd.report.sheets import Sheet, markdown, printed, write

FOLDER = "sources"

_COMMITTED = "paper"
"""The scale of the records that the page is made of."""

_SOURCE = "source"
_VICTIMS = {"undefended": "no defense", "grfd": "GRFD"}
"""Model that is attacked → its title."""


@dataclass(frozen=True)
class _Scale:
    """The configuration of the attacked models, the recipes of the sources, and the number of attacked images."""

    config: Config
    recipes: tuple[str, ...]
    examples: int


_SCALES = {
    "quick": _Scale(PRESETS["quick"], ("the preset's", "learning rate 0.01"), 100),
    "paper": _Scale(PRESETS["mnist-lenet5"], ("the preset's", "60 epochs at 0.01 in batches of 64"), 1000),
}
SCALES = tuple(_SCALES)


def _judged_folder(out: Path, scale: str, seed: int, recipe: str) -> Path:
    return out / f"{scale}-seed-{seed}" / f"from-{recipe_slug(recipe)}"


def cells(out: Path, scale: str, seeds: int) -> list[Cell]:
    """The attacked models, the sources, and the attacks from each source, for each seed."""
    chosen, todo = _SCALES[scale], []
    for seed in range(seeds):
        folder, config = out / f"{scale}-seed-{seed}", replace(chosen.config, seed=seed)
        victims = folder / "victims"
        todo.append(Cell(f"seed {seed}: train the attacked models", partial(_has_victims, victims),
                         partial(fitting.train_run, victims, config)))  # fmt: skip
        for index, recipe in enumerate(chosen.recipes):
            # with another seed, or the first source would be the standard model of the attacked ones
            path, settings = folder / f"source-{index}", replace(config, seed=seed + 100, **RECIPES[recipe])
            todo.append(Cell(f"seed {seed}: train the source, {recipe}", partial(_has_source, path),
                             partial(_train, path, settings), independent=True))  # fmt: skip
            judged = _judged_folder(out, scale, seed, recipe)
            todo.append(Cell(f"seed {seed}: attacks from the source, {recipe}",
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
        job = fitting.prepare(path, config)
        standard.fit(job)


def _is_judged(folder: Path, examples: int) -> bool:
    return all(are_complete(folder, victim, "transfer", PAPER_ATTACKS, examples) for victim in _VICTIMS)


def _judge(victims: Path, source: Path, out: Path, examples: int) -> None:
    """The source is also attacked under `whitebox`, since that row is compared with the paper's None."""
    models = {_SOURCE: _load(source, "standard")} | {name: _load(victims, name) for name in _VICTIMS}
    config = runs.load(victims).config
    for protocol, attacked in (("transfer", models), ("whitebox", {_SOURCE: models[_SOURCE]})):
        request = Request((protocol,), PAPER_ATTACKS, examples)
        evaluating.evaluate_models(attacked, out, request, sources=(_SOURCE,), config=config)


def _load(path: Path, name: str) -> nn.Module:
    job = open_job(path)
    return standard.load_second(job) if name == "undefended" else DEFENSES[name].load(job)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """What the attacks from each source leave, beside the paper; also written to sources.md, .tex and .csv."""
    folders = {
        recipe: [_judged_folder(out, scale, seed, recipe) for seed in range(seeds)] for recipe in _SCALES[scale].recipes
    }
    sheet = sources_sheet(folders)
    write(sheet, out / "sources")
    return [printed(sheet), f"written {out / 'sources.md'}, .tex and .csv"]


def sources_sheet(folders_of: Mapping[str, Sequence[Path]]) -> Sheet:
    """A row for each source under `whitebox`, and one for each attacked model. Recipe → one folder for each seed."""
    lines = []
    for recipe, folders in folders_of.items():
        grids = [grid(rows(folder)) for folder in folders]
        for protocol, model, title in (
            ("whitebox", _SOURCE, "itself, white-box"),
            *(("transfer", victim, title) for victim, title in _VICTIMS.items()),
        ):
            numbers = [cell_text(grids, protocol, model, name) for name in ("none", *PAPER_ATTACKS)]
            lines.append([recipe, title, *numbers, averages_text(grids, protocol, model, PAPER_ATTACKS)])
    for model, title in (("standard", "None"), ("grfd", "GRFD")):
        row = TABLE_3["mnist"][model]
        mean = sum(row[name] for name in TABLE_1_ATTACKS) / len(TABLE_1_ATTACKS)
        lines.append(["paper", title, *(f"{row[name]:.1f}" for name in ("none", *TABLE_1_ATTACKS)), f"{mean:.1f}"])
    header = ["attacks made on", "and given to", "clean", *(column_titles()[name] for name in PAPER_ATTACKS), "average"]
    return Sheet(header, lines, "What a transferred attack leaves", left=2)


def section(results: Path) -> list[str]:
    """A heading and the table, if such records are committed."""
    seeds = sorted((results / FOLDER).glob(f"{_COMMITTED}-seed-*"))
    if not seeds:
        return []
    names = sorted(path.name for path in seeds[0].glob("from-*"))
    folders_of = {recipe_of_slug(name.removeprefix("from-")): [seed / name for seed in seeds] for name in names}
    return [
        "## What a transferred attack leaves, by the model on which it was made",
        "`grfd reproduce sources --scale paper`, 1,000 images. The attacks of Table 1 are made on an undefended "
        "LeNet5, whose seed differs from that of the attacked models. The first column says by which recipe it was "
        "trained. The examples are then given to GRFD (150 epochs of stage I) and to an undefended LeNet5 of the "
        "preset's recipe.",
        markdown(sources_sheet(folders_of)),
    ]
