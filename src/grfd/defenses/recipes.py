"""What a defense was fitted with: kept beside its weights, so that it is loaded as it was fitted."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from grfd.errors import UserError
from grfd.runs import Run, write_json

Recipe = TypeVar("Recipe")


def settled(recipe: Recipe, channels: int, grey: Mapping[str, Any], colour: Mapping[str, Any]) -> Recipe:
    """The recipe with every None replaced by the literature's value for grey images, or for colour ones."""
    published = grey if channels == 1 else colour
    missing = {name: value for name, value in published.items() if getattr(recipe, name) is None}
    return replace(recipe, **missing)  # type: ignore[type-var]


def keep(run: Run, defense: str, recipe: Any) -> None:
    """Writes recipes/`defense`.json. Raises `UserError` where the run holds it with another recipe."""
    file = run.file(f"recipes/{defense}.json")
    if file.exists():
        # a setting that the folder does not know yet is younger than it: it was fitted as the default has it
        stored = asdict(type(recipe)()) | json.loads(file.read_text())
        now = json.loads(json.dumps(asdict(recipe)))
        changes = ", ".join(f"{name} {stored[name]} → {now[name]}" for name in now if stored[name] != now[name])
        if changes:
            raise UserError(f"{run.path} holds {defense} with another recipe ({changes}): choose another folder")
        return
    write_json(file, asdict(recipe))


def recall(run: Run, defense: str, kind: type[Recipe]) -> Recipe:
    """The recipe that the defense was fitted with. Raises `UserError` where there is none."""
    file = run.file(f"recipes/{defense}.json")
    try:
        return kind(**json.loads(file.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"{file} is not there: run grfd fit {defense} --out {run.path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no recipe of {defense}: {error}") from error
