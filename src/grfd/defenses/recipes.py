"""Recipes: completed, checked, and stored with the weights, so that a defense is loaded as it was fitted."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from grfd import files, schema
from grfd.config import Config
from grfd.data.record import Data
from grfd.errors import UserError
from grfd.runs import Run, write_json
from grfd.schema import Settings
from grfd.training.loop import Optimisation

Recipe = TypeVar("Recipe", bound=Settings)


class _Trained(Protocol):
    """A recipe with one training."""

    @property
    def epochs(self) -> int | None: ...
    @property
    def learning_rate(self) -> float: ...


def optimisation_of(recipe: _Trained, weight_decay: float | None = None) -> Optimisation:
    """How a defense is trained, from a recipe without any None. `weight_decay`: None for that of the run."""
    assert recipe.epochs is not None
    return Optimisation(recipe.epochs, recipe.learning_rate, weight_decay=weight_decay)


def with_published_values(recipe: Recipe, channels: int, grey: Mapping[str, Any], colour: Mapping[str, Any]) -> Recipe:
    """The recipe with every None replaced by the literature's value, for grey images (1 channel) or colour images."""
    published = grey if channels == 1 else colour
    missing = {name: value for name, value in published.items() if getattr(recipe, name) is None}
    return replace(recipe, **missing)  # type: ignore[type-var]


def checked_recipe(module: Any, recipe: Recipe, data: Data, config: Config) -> Recipe:
    """The recipe for these images, without any None. Raises `UserError` where the defense cannot be fitted with it.

    Nothing is written. The file of a defense may define `check(recipe, data, config)` for requirements of its own.
    """
    if type(recipe) is not module.Recipe:
        raise UserError(f"expected a Recipe of {module.NAME}, got {schema.quoted(recipe)}")
    channels = data.train.images.shape[1]
    chosen = with_published_values(schema.checked_settings(recipe), channels, module.GREY, module.COLOUR)
    if hasattr(module, "check"):
        module.check(chosen, data, config)
    return chosen


def require_multiples(defense: str, data: Data, factor: int, least: int = 1) -> None:
    """Raises `UserError` where a side of the images is not a multiple of `factor`, or is below `least` pixels."""
    height, width = data.train.images.shape[2:]
    if height % factor or width % factor or min(height, width) < max(least, factor):
        multiples = f"multiples of {factor} and " if factor > 1 else ""
        expected = f"{multiples}at least {max(least, factor)}"
        raise UserError(f"{defense} takes images whose sides are {expected} pixels, got {height}×{width}")


def remember(run: Run, defense: str, recipe: Settings) -> None:
    """Writes recipes/`defense`.json. Raises `UserError` where the run holds the defense with another recipe."""
    file, now = _file(run, defense), asdict(recipe)  # type: ignore[call-overload]
    if not files.is_there(file):
        write_json(file, now)
        return
    stored = asdict(_read(file, defense, type(recipe)))  # type: ignore[call-overload]
    changes = ", ".join(f"{name} {stored[name]} → {now[name]}" for name in now if stored[name] != now[name])
    if changes:
        raise UserError(f"{run.path} holds {defense} with another recipe ({changes}): choose another folder")


def recall(run: Run, defense: str, kind: type[Recipe]) -> Recipe:
    """The recipe with which the defense was fitted. Raises `UserError` where it has not been fitted."""
    file = _file(run, defense)
    if not files.is_there(file):
        raise UserError(f"{file} is not there: run grfd fit {defense} --out {run.path}")
    return _read(file, defense, kind)


def _file(run: Run, defense: str) -> Path:
    return run.file(f"recipes/{defense}.json")


def _read(file: Path, defense: str, kind: type[Recipe]) -> Recipe:
    """A stored recipe, without any None. Raises `UserError` for a damaged file."""
    where = f"{file} is not a recipe of {defense}"
    try:
        stored = json.loads(files.read_regular(file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error
    recipe = schema.from_plain(kind, stored, where)
    for field in fields(recipe):  # type: ignore[arg-type]
        if getattr(recipe, field.name) is None:
            raise UserError(f"{where}: {field.name} must be given, got null")
    return recipe
