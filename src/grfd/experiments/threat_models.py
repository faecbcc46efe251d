"""Other threat models than Table 1's: robustness curves in each norm, minimal distances, and common corruptions.

Claim: the paper evaluates one L∞ budget for each attack. It says nothing about L2 and L1, about smaller and larger ε,
or about corruptions without an attacker.
Cost: `grfd reproduce threat-models --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce threat-models --scale short`, and with `--dataset cifar10 --scale small`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from grfd import runs
from grfd.api import evaluating, fitting
from grfd.api.job import Own, open_run
from grfd.attacks.budgets import NORM_TITLES
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES, is_fitted
from grfd.evaluation.case import Task
from grfd.evaluation.corrupted import corruption_rows
from grfd.evaluation.distances import distances
from grfd.evaluation.numbers import column_titles, model_titles
from grfd.evaluation.request import Request
from grfd.evaluation.results import CorruptionRow, Row
from grfd.evaluation.spread import mean_of_shares_text, with_interval_text
from grfd.evaluation.stored import read_results
from grfd.evaluation.threat_rows import threat_rows
from grfd.experiments.cells import Cell
from grfd.experiments.records import are_complete, config_of
from grfd.report.curves import draw_curves
from grfd.report.sheets import Sheet, markdown
from grfd.report.threat_tables import corruption_tables, threat_tables

FOLDER = "threat-models"

_DEFENSES = ("standard", "bit-depth", "grfd", "pgd-at", "trades", "grfd-robust")
_CURVE_ATTACKS = {"linf": ("pgd",), "l2": ("pgd",), "l1": ("apgd_ce",)}
"""Norm → the attack of its curve, under `adaptive`, which adds other losses and Square to PGD.

With APGD-T, a curve of six models takes more than an hour on two cores."""
_DISTANCE_ATTACKS = ("ddn", "fmn")
"""The minimal-norm attacks, in L2."""
_GREY = {"linf": (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3), "l2": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
         "l1": (0.0, 2.0, 5.0, 10.0, 15.0, 20.0)}  # fmt: skip
_COLOUR = {"linf": tuple(each / 255 for each in (0, 1, 2, 4, 8, 16)), "l2": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0),
           "l1": (0.0, 1.0, 3.0, 6.0, 12.0, 24.0)}  # fmt: skip


_Recipes = dict[str, dict[str, Any]]
_QUICK: _Recipes = {name: {"epochs": 1} for name in ("pgd-at", "trades", "grfd-robust")}
_SHORT: _Recipes = {"grfd-robust": {"epochs": 5}}
_SMALL: _Recipes = {name: {"epochs": 5, "steps": 3} for name in ("pgd-at", "trades", "grfd-robust")}
"""What each scale changes in the recipes of the defenses."""


@dataclass(frozen=True)
class ThreatScale:
    """How much is run: the configuration, the ε of each curve, and the numbers of images."""

    config: Config
    curves: dict[str, tuple[float, ...]]
    examples: int
    corrupted: int
    recipes: _Recipes = field(default_factory=dict)


_FEWER = replace(PRESETS["cifar10-small"], train_examples=20_000)

_SCALES = {
    "quick": ThreatScale(PRESETS["quick"], {"linf": (0.0, 0.1), "l2": (0.0, 1.0)}, 20, 50, _QUICK),
    "short": ThreatScale(PRESETS["quick"], _GREY, 200, 1000, _SHORT),
    "cifar10-small": ThreatScale(_FEWER, _COLOUR, 200, 500, _SMALL),
}
SCALES = tuple(_SCALES)
_COMMITTED = ("short", "cifar10-small")
"""The scales of the records that the page is made of."""


def _seed_folder(out: Path, scale: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}"


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """For each seed: the training of each defense, a curve in each norm, the distances, and the corruptions."""
    todo = []
    for seed in range(seeds):
        chosen = _SCALES[scale]
        folder = _seed_folder(out, scale, seed)
        config = replace(chosen.config, seed=seed, data_dir=data_dir)
        mine = [
            Cell(f"fit {name}", partial(_is_fitted, folder, name), partial(_fit, folder, config, name, chosen.recipes))
            for name in _DEFENSES
        ]
        mine += [_curve_cell(folder, chosen, norm) for norm in chosen.curves]
        mine.append(_distance_cell(folder, chosen))
        last = Request(("whitebox",), ("fgsm",), chosen.corrupted, corruptions=True)
        mine.append(Cell(f"corruptions, {chosen.corrupted:,} images", partial(_are_corrupted, folder),
                         partial(_evaluate, folder, last)))  # fmt: skip
        todo += [replace(cell, name=f"seed {seed}: {cell.name}") for cell in mine]
    return todo


def _is_fitted(folder: Path, name: str) -> bool:
    return (folder / "config.json").exists() and is_fitted(runs.load(folder), name)


def _fit(folder: Path, config: Config, name: str, recipes: _Recipes) -> None:
    fitting.fit_run(name, folder, config, DEFENSES[name].Recipe(**recipes.get(name, {})))


def _curve_cell(folder: Path, scale: ThreatScale, norm: str) -> Cell:
    request = Request(("adaptive",), _CURVE_ATTACKS[norm], scale.examples, norm, scale.curves[norm])
    title = f"curve in {NORM_TITLES[norm]}, {len(request.eps)} values of ε, {scale.examples:,} images"
    return Cell(title, partial(_is_done, folder, request), partial(_evaluate, folder, request))


def _distance_cell(folder: Path, scale: ThreatScale) -> Cell:
    request = Request(("whitebox",), _DISTANCE_ATTACKS, scale.examples, "l2")
    title = f"distances in {NORM_TITLES['l2']}, {scale.examples:,} images"
    return Cell(title, partial(_is_done, folder, request), partial(_evaluate, folder, request))


def _is_done(folder: Path, request: Request) -> bool:
    roots = {
        Task("", "", attack, ball).root
        for attack in request.attacks
        for ball in request.balls(attack, grey=True)
        if ball is not None and (request.eps or math.isinf(ball.eps))
    }
    protocol = request.protocols[-1]
    names = _DEFENSES
    return all(
        are_complete(folder, name, protocol, request.attacks, request.examples, root)
        for name in names
        for root in roots
    )


def _are_corrupted(folder: Path) -> bool:
    return {row.model for row in corruption_rows(folder)} >= set(_DEFENSES)


def _evaluate(folder: Path, request: Request) -> None:
    evaluating.evaluate_run(open_run(folder), request, _DEFENSES[1:], Own())


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The curves, the distances and the accuracies under corruptions of each seed."""
    parts: list[Table | str] = []
    for seed in range(seeds):
        folder = _seed_folder(out, scale, seed)
        results = read_results(folder)
        parts.append(f"Seed {seed}")
        parts += threat_tables(results.rows, results.distances)
        parts += corruption_tables(results.corruptions)
    return parts


def section(results: Path) -> list[str]:
    """The curves of each norm, the minimal distances and the corruptions, if such runs are committed."""
    parts = []
    for scale in _COMMITTED:
        folders = sorted((results / FOLDER).glob(f"{scale}-seed-*"))
        if folders:
            parts += _scale_section(scale, folders)
    if not parts:
        return []
    return ["## Other threat models: norms, ε, distances, corruptions", *parts]


def _scale_section(scale: str, folders: Sequence[Path]) -> list[str]:
    config = config_of(folders[0])
    rows = [threat_rows(folder) for folder in folders]
    examples = max(row.examples for row in rows[0])
    name = "MNIST" if config["data"] == "mnist" else "CIFAR-10, at a small scale"
    options = f"--scale {scale}" if scale == "short" else "--dataset cifar10 --scale small"
    seeds = f"{len(folders)} seeds" if len(folders) > 1 else "one seed"
    parts = [
        f"### On {name}",
        f"`grfd reproduce threat-models {options}`: {config['model']}, stage I for {config['epochs']} epochs, "
        f"{examples:,} test images, {seeds}. A cell is the share of images that are right under `adaptive` at this ε "
        "and at each smaller one, in per cent, in the worst case of all attacks of the table.",
    ]
    for norm in _GREY:
        sheet = _curve_sheet(rows, norm)
        if sheet.rows:
            prefix = "threat-models" if scale == "short" else "threat-models-cifar10"
            parts += [
                f"{NORM_TITLES[norm]}, {' and '.join(column_titles()[attack] for attack in _CURVE_ATTACKS[norm])}:",
                markdown(sheet),
                f"![Accuracy over ε in {NORM_TITLES[norm]}]({prefix}-{norm}.png)",
            ]
    return [*parts, *_distance_part(folders), *_corruption_part(folders)]


def _curve_sheet(rows: Sequence[Sequence[Row]], norm: str) -> Sheet:
    """One line for each model, with its worst case at each ε."""
    wanted = (norm, "adaptive", "worst")
    chosen = [row for each in rows for row in each if (row.norm, row.protocol, row.attack) == wanted]
    values = sorted({row.eps for row in chosen if row.eps is not None})
    lines = []
    for model in (name for name in model_titles() if any(row.model == name for row in chosen)):
        cells_of = [[row.right for row in chosen if (row.model, row.eps) == (model, eps) and row.right is not None]
                    for eps in values]  # fmt: skip
        lines.append([model_titles()[model], *(with_interval_text(each) for each in cells_of)])
    return Sheet(["model", *(f"{eps:.3g}" for eps in values)], lines)


def _distance_part(folders: Sequence[Path]) -> list[str]:
    lines, order = [], list(model_titles())
    for each in sorted(distances(folders[0]), key=lambda each: order.index(each.model)):
        quartiles = (each.lower_quartile, each.median, each.upper_quartile)
        texts = ["–" if value is None else f"{value:.3f}" for value in quartiles]
        title = model_titles().get(each.model, each.model)
        lines.append([title, each.attack.upper(), *texts, f"{each.found:,} of {each.examples:,}"])
    if not lines:
        return []
    header = ["model", "attack", "25 %", "median", "75 %", "fooled"]
    text = (
        "How far is an image from being misclassified? The smallest perturbation in L2 that a minimal-norm attack "
        "found under `whitebox`, over the images that are classified correctly, first seed:"
    )
    return [text, markdown(Sheet(header, lines, left=2))]


def _corruption_part(folders: Sequence[Path]) -> list[str]:
    rows = corruption_rows(folders[0])
    if not rows:
        return []
    models = [name for name in model_titles() if any(row.model == name for row in rows)]
    corruptions = list(dict.fromkeys(row.corruption for row in rows))
    lines = [
        [
            name.replace("_", " "),
            *(_mean_text([row for row in rows if row.corruption == name], model) for model in models),
        ]
        for name in corruptions
    ]
    overall = [_mean_text(rows, model) for model in models]
    text = (
        "Without an attacker: accuracy under common corruptions, the mean over five severities with its 95 % "
        f"interval, on {rows[0].examples:,} images, first seed:"
    )
    header = ["corruption", *(model_titles()[model] for model in models)]
    return [text, markdown(Sheet(header, [*lines, ["**mean**", *overall]]))]


def _mean_text(rows: Sequence[CorruptionRow], model: str) -> str:
    return mean_of_shares_text([row.accuracy for row in rows if row.model == model], rows[0].examples)


def draw(results: Path, docs: Path) -> list[Path]:
    """threat-models-NORM.png and .pdf of each committed data set."""
    written = []
    for scale in _COMMITTED:
        folder = results / FOLDER / f"{scale}-seed-0"
        if folder.exists():
            prefix = "threat-models" if scale == "short" else "threat-models-cifar10"
            rows = [row for row in threat_rows(folder) if row.model != "second-standard"]
            written += draw_curves(rows, docs, prefix)
    return written
