"""What an evaluation has left in its folder, read with every field looked at: results.json and evaluation.json."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from grfd.errors import UserError
from grfd.evaluation.checks import Check
from grfd.evaluation.numbers import Results, Row
from grfd.files import read_regular

Kind = TypeVar("Kind", Row, Check)
EVALUATION: dict[str, type] = {"protocols": list, "attacks": list, "examples": int, "images": str}
"""Of evaluation.json what is read; there is more in it."""
WAY_OUT = "delete it and run grfd evaluate again, which keeps the records"


def read_results(folder: Path) -> Results:
    """The content of results.json. Raises `UserError` where it is damaged."""
    file = folder / "results.json"
    content = _object(file)
    if set(content) != {field.name for field in fields(Results)}:
        raise _damaged(file, "expected rows and checks")
    return Results(_part(file, content, "rows", Row), _part(file, content, "checks", Check))


def read_checks(folder: Path) -> tuple[Check, ...]:
    """The masking checks of results.json. Raises `UserError` where it is damaged."""
    file = folder / "results.json"
    return _part(file, _object(file), "checks", Check)


def read_evaluation(folder: Path, *needed: str) -> dict[str, Any]:
    """The content of evaluation.json: what was asked, of which images. `needed`: some of `EVALUATION`.

    Raises `UserError` where it is damaged, or has not what is needed.
    """
    file = folder / "evaluation.json"
    found = _object(file)
    for name in needed:
        if type(found.get(name)) is not EVALUATION[name]:
            raise _damaged(file, f"{name} is {_short(found.get(name))}")
    return found


def _part(file: Path, content: dict[str, Any], part: str, kind: type[Kind]) -> tuple[Kind, ...]:
    listed = content.get(part)
    if not isinstance(listed, list):
        raise _damaged(file, f"{part} is no list")
    for index, row in enumerate(listed):
        if problem := _problem(row, kind):
            raise _damaged(file, f"{part}[{index}]: {problem}")
    return tuple(kind(**row) for row in listed)


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(file))
    except (UserError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise _damaged(file, str(error) or type(error).__name__) from error
    if not isinstance(found, dict):
        raise _damaged(file, f"it holds a {type(found).__name__}")
    return found


def _problem(row: object, kind: type[Kind]) -> str:
    """What is wrong with a row, if anything."""
    if not isinstance(row, dict) or set(row) != {field.name for field in fields(kind)}:
        return f"expected the fields {', '.join(field.name for field in fields(kind))}"
    for field in fields(kind):
        value = row[field.name]
        if type(value) is not field.type and not (field.type is float and type(value) is int):
            return f"{field.name} is {_short(value)}"
    if kind is Row and not (math.isfinite(row["accuracy"]) and 0 <= row["accuracy"] <= 1):
        return f"accuracy is {_short(row['accuracy'])}, not in [0, 1]"
    return f"examples is {row['examples']}" if kind is Row and row["examples"] < 1 else ""


def _damaged(file: Path, reason: str) -> UserError:
    return UserError(f"{file} is damaged ({reason}): {WAY_OUT}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
