"""Type, choices and range of every setting, checked in one place.

A settings record (`Config`, and each defense's `Recipe`) is a frozen dataclass that derives from `Settings`. Its
annotations are the schema: they are checked whenever a record is created, whether from the command line, the Python
API or a stored file. Therefore no record with an invalid value exists.
"""

import os
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_type_hints

import numpy as np
from annotated_types import Interval, Len
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from grfd.errors import UserError

Checked = TypeVar("Checked", bound="Settings")


def _as_path(value: object) -> Path:
    """Text becomes a path. Empty text would mean the current folder, which nobody types on purpose."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError("a path")
    return Path(text)


def _one_line(value: object) -> object:
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("one line of printable text")
    return value


Count = Annotated[int, Interval(ge=1, le=1_000_000)]
Size = Annotated[int, Interval(ge=1, le=100_000)]
Examples = Annotated[int, Interval(ge=1, le=1_000_000_000)]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Steps = Annotated[int, Interval(ge=1, le=10_000)]
Bits = Annotated[int, Interval(ge=1, le=16)]
Rate = Annotated[float, Interval(ge=1e-12, le=1e30)]
"""A learning rate. The training itself notices when it diverges. Above this bound, float32 would overflow."""
Weight = Annotated[float, Interval(ge=0, le=1e6)]
"""Weight of a term of a loss, or weight decay."""
Deviation = Annotated[float, Interval(ge=1e-6, le=1000)]
"""Standard deviation of noise, or length of a step, in pixels of [0, 1]."""
Pixels = Annotated[float, Interval(ge=1e-12, le=1)]
"""A distance in pixels of [0, 1]."""
Radius = Annotated[float, Interval(ge=0, le=1e6)]
"""The ε of an attack in any norm, in pixels of [0, 1]."""
Share = Annotated[float, Interval(ge=0, le=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]
"""Decay of a moving average in each step."""
Level = Annotated[float, Interval(gt=0, lt=1)]
"""The significance level of a test."""
Thirds = Annotated[tuple[Weight, Weight, Weight], "three numbers"]
"""A weight for each third of the training."""
Text = Annotated[str, Len(1, 10_000), BeforeValidator(_one_line)]
FilePath = Annotated[Path, BeforeValidator(_as_path)]

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

_PHRASES = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "True or False",
    "string_type": "text",
    "string_unicode": "text",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of at most {max_length} characters",
    "literal_error": "{expected}",
    "value_error": "{error}",
}
"""Kind of error in pydantic → the words that follow "must be"."""


class Settings:
    """Base class of all settings dataclasses. Values are checked and converted when a record is created."""

    LATER: ClassVar[frozenset[str]] = frozenset()
    """Settings that are younger than some stored files. A file without them was written with their defaults."""

    def __post_init__(self) -> None:
        enforce(self, type(self))

    def conflict(self) -> str | None:
        """What is wrong with settings that are valid one by one but contradict each other; None if nothing is."""
        return None


def enforce(record: Settings, kind: type[Settings]) -> None:
    """Checks the fields of `kind` in a record, and converts NumPy scalars, lists and text to the types of the fields.

    Raises `UserError` for the first value that is wrong.
    """
    for name, hint in _hints(kind).items():
        given = getattr(record, name)
        right = value(name, hint, given)
        if right is not given:
            object.__setattr__(record, name, right)
    if problem := record.conflict():
        raise UserError(problem)


def checked_settings(record: Checked) -> Checked:
    """The same record, with values of the types of its fields. Raises `UserError` for an invalid value.

    Records are checked when they are created. This function is for objects of unknown origin.
    """
    if not isinstance(record, Settings):
        raise UserError(f"expected a record of settings, got {quoted(record)}")
    enforce(record, type(record))
    return record


def built(kind: type[Checked], given: Mapping[str, Any], where: str) -> Checked:
    """A record with the given fields, and defaults for the others.

    Raises `UserError`, whose message begins with `where`, for unknown fields and invalid values.
    """
    known = sorted(_hints(kind))
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: expected fields with their values, got {quoted(given)}")
    for name in given:
        if name not in known:
            allowed = f"expected one of {', '.join(known)}" if known else "there is nothing to set"
            raise UserError(f"{where}: unknown field {quoted(name)}: {allowed}")
    try:
        return kind(**given)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def from_plain(kind: type[Checked], stored: object, where: str) -> Checked:
    """A record from its JSON form, which must be complete: only fields in `LATER` may be missing.

    Raises `UserError`, whose message begins with `where`, for unknown or missing fields and for invalid values.
    """
    if not isinstance(stored, Mapping):
        raise UserError(f"{where}: expected fields with their values, got {quoted(stored)}")
    for name in _hints(kind):
        if name not in stored and name not in kind.LATER:
            raise UserError(f"{where}: {name} is missing")
    return built(kind, stored, where)


def value(name: str, hint: Any, given: object) -> Any:
    """One value, converted to the type of `hint`. Raises `UserError` if it has another type or is out of range.

    Text is not a number, True is not a whole number, and no number may be infinite or NaN. NumPy scalars count as
    numbers, and lists as tuples.
    """
    try:
        return _adapter(hint).validate_python(_plain(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = _place(name, first)
        wrong = given if place == name else first["input"]  # one element of a list: only that is shown
        raise UserError(f"{place} must be {_expected(hint, first)}, got {quoted(wrong)}") from None


def quoted(given: object) -> str:
    """A value in at most sixty characters of one line, for a message."""
    try:
        text = " ".join(repr(given).split())
    except Exception:  # a caller's own class, or an integer of more digits than Python prints
        text = f"an object of type {type(given).__name__}"
    return text if len(text) <= 60 else text[:59] + "…"


def _plain(given: object) -> object:
    if isinstance(given, np.generic):
        return given.item()
    if isinstance(given, np.ndarray):
        return _plain(given.tolist())
    return tuple(map(_plain, given)) if isinstance(given, list | tuple) else given


def _place(name: str, error: Any) -> str:
    """The name of the field, with the index of its element if only that one is wrong."""
    whole = error["type"] in ("missing", "too_long", "too_short")
    return name if whole else name + "".join(f"[{index}]" for index in error["loc"])


def _expected(hint: Any, error: Any) -> str:
    context = {name: _number(limit) for name, limit in error.get("ctx", {}).items()}
    too_large = error["type"] == "float_type" and type(error["input"]) is int
    phrase = _PHRASES.get("finite_number" if too_large else error["type"])
    return phrase.format(**context) if phrase else _description(hint) or error["msg"]


def _number(limit: object) -> str:
    if isinstance(limit, float):
        return f"{int(limit):,}" if limit.is_integer() and limit < 1e15 else f"{limit:g}"
    return f"{limit:,}" if isinstance(limit, int) else str(limit)


def _description(hint: Any) -> str | None:
    """The description in an annotation, which may be inside a union with None."""
    for part in (hint, *get_args(hint)):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, str):
                return extra
    return None


def _hints(kind: Any) -> dict[str, Any]:
    """The fields of a record, and their annotations."""
    return _hints_of(kind)


@cache
def _hints_of(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=_STRICT)
