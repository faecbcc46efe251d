"""The fitted models below a folder."""

import itertools
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.table import Table

from grfd.api.listing import FittedModel, fitted_models
from grfd.attacks.budgets import Ball
from grfd.evaluation.numbers import column_titles
from grfd.evaluation.results import Row
from grfd.progress import answer_alone, console, print_json
from grfd.report.table import with_interval


def models_command(folder: tyro.conf.Positional[Path] = Path("results"), *, json: bool = False) -> None:
    """List the fitted models below a folder, with clean accuracy and worst case.

    Each is used by its run folder and its name: `grfd predict RUN FILE --defense NAME`, `grfd export RUN NAME`, which
    writes a model card, or `grfd.load_defense(RUN, defense=NAME)` in Python.

    Args:
        folder: A folder that contains run folders, for example runs. results is that of a checkout of grfd.
        json: Print a list with one object for each model. Accuracies are shares; null if it was not judged.
    """
    with answer_alone(json):
        models = fitted_models(folder)
    if json:
        print_json([_as_object(model) for model in models])
        return
    if not models:
        console.print(f"no fitted model lies below {folder}: grfd train and grfd fit make one")
        return
    for group in _groups(models):
        console.print(_table(group))
    console.print("Accuracy in per cent, below it the 95 % interval over images. A flag is a reason to doubt it.")


def _groups(models: list[FittedModel]) -> list[list[FittedModel]]:
    """What stands in one table: the models of a run folder, or neighbouring run folders of one model each."""
    of_run = Counter(model.run for model in models)

    def shared(model: FittedModel) -> tuple[str, str, str]:
        folder = model.run if of_run[model.run] > 1 else str(Path(model.run).parent)
        return folder, model.network, model.data

    return [list(group) for _, group in itertools.groupby(models, shared)]


def _table(models: list[FittedModel]) -> Table:
    """The models of a run folder, or one of each folder, named above the model."""
    folders = {model.run for model in models}
    run = models[0].run if len(folders) == 1 else f"{Path(models[0].run).parent}, a run folder each"
    title = f"{run}: {models[0].network} on {models[0].data}"
    table = Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "MB", "clean", "worst case", "over", "flags"):
        table.add_column(name, justify="right" if name in ("MB", "clean", "worst case") else "left")
    for model in models:
        attacks = ", ".join(column_titles().get(name, name) for name in model.attacks)
        over = f"{model.worst.protocol}{_ball(model.worst)}: {attacks}" if model.worst else "not judged"
        flags = "\n".join(model.flags)
        name = model.defense if len(folders) == 1 else f"{Path(model.run).name}\n  {model.defense}"
        table.add_row(name, f"{model.megabytes:.1f}", _text(model.clean), _text(model.worst), over, flags)
    return table


def _ball(row: Row) -> str:
    """What the attacker may change, where it is not Table 1's ε."""
    return "" if row.norm is None or row.eps is None else f", {Ball(row.norm, row.eps)}"  # type: ignore[arg-type]


def _text(row: Row | None) -> str:
    return "–" if row is None else with_interval(row)


def _as_object(model: FittedModel) -> dict[str, Any]:
    """A model with its accuracies as plain numbers."""
    numbers = {name: None if row is None else row.accuracy for name, row in (("clean", model.clean),
                                                                             ("worst", model.worst))}  # fmt: skip
    worst = model.worst
    names = ("protocol", "norm", "eps", "examples")
    return asdict(model) | numbers | {name: getattr(worst, name) if worst else None for name in names}
