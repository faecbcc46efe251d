"""Reads results.json and evaluation.json from the folder of an evaluation, and checks every field."""

import json
import math
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from grfd.errors import UserError
from grfd.evaluation.results import Check, CorruptionRow, Distance, Results, Row
from grfd.files import read_regular

Kind = TypeVar("Kind", Row, Check, Distance, CorruptionRow)
EVALUATION: dict[str, type] = {"protocols": list, "attacks": list, "examples": int, "images": str}
"""The fields of evaluation.json that are read, with their types. The file has more."""
JUDGED_AS = "judged_as.json"
"""In the folder of a model that was judged in another folder, beside others."""
_DERIVED = ("low", "high")
"""What a stored row has beside its fields, because it follows from them."""
_WAY_OUT = "delete it and run grfd evaluate again, which keeps the records"


def read_results(folder: Path) -> Results:
    """The content of results.json. Raises `UserError` if it is damaged."""
    file = folder / "results.json"
    content = _object(file)
    if not {"rows", "checks"} <= set(content) <= {field.name for field in fields(Results)}:
        raise _damaged(file, "expected rows and checks")
    content = {"distances": [], "corruptions": []} | content
    distances = _part(file, content, "distances", Distance)
    corruptions = _part(file, content, "corruptions", CorruptionRow)
    return Results(_part(file, content, "rows", Row), _part(file, content, "checks", Check), distances, corruptions)


@dataclass(frozen=True)
class JudgedAs:
    """The content of judged_as.json: `defense`, whose weights lie here, was judged in `folder` as `model`."""

    defense: str
    folder: str
    model: str


def judged_as(folder: Path) -> JudgedAs | None:
    """Where the model of a run folder was judged beside others; None if it was judged here, or not at all.

    Raises `UserError` if the file is damaged.
    """
    file = folder / JUDGED_AS
    if (folder / "results.json").exists() or not file.exists():
        return None
    told = _object(file)
    if set(told) != {field.name for field in fields(JudgedAs)} or not all(
        isinstance(each, str) for each in told.values()
    ):
        raise _damaged(file, "expected the texts defense, folder and model")
    return JudgedAs(**told)


def results_of(folder: Path, defense: str) -> Results | None:
    """What was measured of one defense of a run folder, here or elsewhere; None if it was not judged.

    An experiment judges its models together, in one folder and under other names; here the model has its own again.
    Raises `UserError` if a file is damaged.
    """
    elsewhere, name = judged_as(folder), defense
    if elsewhere is not None and elsewhere.defense == defense:
        folder, name = folder / elsewhere.folder, elsewhere.model
    if not (folder / "results.json").exists():
        return None
    whole = read_results(folder)
    lists = [getattr(whole, field.name) for field in fields(Results)]
    return Results(*(tuple(replace(each, model=defense) for each in rows if each.model == name) for rows in lists))


def read_checks(folder: Path) -> tuple[Check, ...]:
    """The checks for gradient masking in results.json. Raises `UserError` if it is damaged."""
    file = folder / "results.json"
    return _part(file, _object(file), "checks", Check)


def read_evaluation(folder: Path, *needed: str) -> dict[str, Any]:
    """The content of evaluation.json: the request and the images. `needed`: some of the fields in `EVALUATION`.

    Raises `UserError` if it is damaged, or lacks a field that is needed.
    """
    file = folder / "evaluation.json"
    content = _object(file)
    for name in needed:
        if type(content.get(name)) is not EVALUATION[name]:
            raise _damaged(file, f"{name} is {_short(content.get(name))}")
    return content


def _part(file: Path, content: dict[str, Any], part: str, kind: type[Kind]) -> tuple[Kind, ...]:
    listed = content.get(part)
    if not isinstance(listed, list):
        raise _damaged(file, f"{part} is no list")
    for index, row in enumerate(listed):
        if problem := _problem(row, kind):
            raise _damaged(file, f"{part}[{index}]: {problem}")
    known = [field.name for field in fields(kind)]
    return tuple(kind(**{name: value for name, value in row.items() if name in known}) for row in listed)


def _object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(file))
    except (UserError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise _damaged(file, str(error) or type(error).__name__) from error
    if not isinstance(content, dict):
        raise _damaged(file, f"it contains a {type(content).__name__}")
    return content


def _problem(row: object, kind: type[Kind]) -> str:
    """What is wrong with a row; empty if nothing is."""
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    known = {field.name for field in fields(kind)} | (set(_DERIVED) if kind is Row else set())
    if not isinstance(row, dict) or not needed <= set(row) <= known:
        return f"expected the fields {', '.join(field.name for field in fields(kind))}"
    for field in fields(kind):
        value = row.get(field.name, field.default)
        allowed = get_args(field.type) or (field.type,)
        if type(value) not in allowed and not (float in allowed and type(value) is int):
            return f"{field.name} is {_short(value)}"
    if kind is Row and not (math.isfinite(row["accuracy"]) and 0 <= row["accuracy"] <= 1):
        return f"accuracy is {_short(row['accuracy'])}, not in [0, 1]"
    return f"examples is {row['examples']}" if kind is Row and row["examples"] < 1 else ""


def _damaged(file: Path, reason: str) -> UserError:
    return UserError(f"{file} is damaged ({reason}): {_WAY_OUT}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
