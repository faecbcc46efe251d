"""The JSON file of a benchmark: its rows, the number of images, and the machine and versions that measured them."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from grfd.bench.libraries import LIBRARY_PACKAGES, installed
from grfd.errors import UserError
from grfd.runs import provenance, write_json

RowKind = TypeVar("RowKind")


def write_rows(save: Path, rows: list[Any], examples: int) -> None:
    """Writes the file, whole or not at all. `rows`: dataclasses of one kind."""
    write_json(save, _record(rows, examples))


def read_rows(save: Path, examples: int, kind: type[RowKind]) -> list[RowKind]:
    """The rows of a file; none if it is not there.

    Raises `UserError` if they are of another kind, or from another machine, other versions or other examples.
    """
    if not save.exists():
        return []
    record, now = json.loads(save.read_text()), _record([], examples)
    for name in ("examples", "libraries", "versions", "machine"):
        if record.get(name) != now[name]:
            raise UserError(f"{save} was measured with {name} {record.get(name)}, now {now[name]}: choose another file")
    try:
        return [kind(**row) for row in record["rows"]]
    except TypeError as error:
        raise UserError(f"{save} contains rows of another kind of benchmark: choose another file") from error


def _record(rows: list[Any], examples: int) -> dict[str, Any]:
    libraries = {name: version(LIBRARY_PACKAGES[name]) for name in installed()}
    about = {"examples": examples, "seed": 0, "libraries": libraries}
    return {"rows": [asdict(row) for row in rows], **about, **provenance()}
