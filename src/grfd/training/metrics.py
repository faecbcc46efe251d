"""metrics.jsonl: a line for each epoch of each stage. Lines that cannot be read are kept, and stop nothing."""

import json
from pathlib import Path
from typing import Any

from grfd.files import is_there, read_regular
from grfd.runs import write_bytes

METRICS_FILE = "metrics.jsonl"

Epoch = dict[str, Any]


def read_epochs(file: Path) -> list[Epoch]:
    """The lines that say stage and epoch. Raises `UserError` where the file cannot be read at all."""
    return [row for row in map(_row, _lines(file)) if row is not None]


def append_epoch(file: Path, row: Epoch) -> None:
    """Adds a row. Rows of this epoch or a later one, which a killed run has left, are dropped."""
    kept = [line for line in _lines(file) if not _is_replaced(_row(line), row)]
    write_bytes(file, b"".join(line + b"\n" for line in [*kept, json.dumps(row).encode()]))


def _lines(file: Path) -> list[bytes]:
    if not is_there(file):
        return []
    return read_regular(file).removesuffix(b"\n").split(b"\n")


def _row(line: bytes) -> Epoch | None:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("stage"), str):
        return None
    return row if isinstance(row.get("epoch"), int | float) else None


def _is_replaced(old: Epoch | None, new: Epoch) -> bool:
    return old is not None and old["stage"] == new["stage"] and old["epoch"] >= new["epoch"]
