"""What a value, a type or a docstring looks like on a page of the reference."""

import inspect
from collections.abc import Iterable
from dataclasses import MISSING
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Interval

LARGE = 10_000
"""An upper limit from here on is not worth a reader's time."""


def kind(hint: Any) -> str:
    """A type in words: choices, ranges, lists."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(parts[0], parts[1:])
    if origin in (Union, UnionType):
        return " or ".join(kind(each) for each in parts if each is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in parts)
    if origin is tuple:
        return f"any number of: {kind(parts[0])}" if parts[-1] is Ellipsis else ", ".join(kind(each) for each in parts)
    known = {int: "whole number", float: "number", str: "text", bool: "flag", Path: "path"}
    return known.get(hint, getattr(hint, "__name__", str(hint)))


def _annotated(inner: Any, extras: tuple[Any, ...]) -> str:
    words = next((each for each in extras if isinstance(each, str)), kind(inner))
    return ", ".join([words, *(_range(each) for each in extras if isinstance(each, Interval))])


def _range(interval: Interval) -> str:
    """Both limits of a setting; only the lower one where the upper one merely keeps nonsense out."""
    low = f"at least {plain(interval.ge)}" if interval.ge is not None else f"above {plain(interval.gt)}"
    high = f"at most {plain(interval.le)}" if interval.le is not None else f"below {plain(interval.lt)}"
    return low if (interval.le or 0) >= LARGE else f"{low} and {high}"


def default(value: Any) -> str:
    if value in (MISSING, inspect.Parameter.empty):
        return "required"
    return plain(value)


def plain(value: Any) -> str:
    """A value as it is typed."""
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return " ".join(plain(each) for each in value)
    return f"`{value}`"


def first_line(value: Any) -> str:
    return escaped((inspect.getdoc(value) or "").splitlines()[0])


def escaped(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return text.replace("<", r"\<").replace("*", r"\*").replace("$", r"\$")


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("$", r"\$")


def joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
