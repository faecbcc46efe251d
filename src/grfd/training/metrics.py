"""metrics.jsonl: one line for each epoch of each stage. Lines that cannot be read are kept and ignored."""

import json
from pathlib import Path
from typing import Any

from grfd.files import is_there, read_regular
from grfd.runs import write_bytes

METRICS_FILE = "metrics.jsonl"

Epoch = dict[str, Any]
"""One line: the stage, the epoch counted from 1, the mean of each term of the loss, and the seconds taken."""


def read_epochs(file: Path) -> list[Epoch]:
    """All lines that name a stage and an epoch. Raises `UserError` where the file itself cannot be read."""
    return [row for row in map(_row, _lines(file)) if row is not None]


def append_epoch(file: Path, row: Epoch) -> None:
    """Adds a row. Rows of the same stage that a killed run has left, of this epoch or of later ones, are removed."""
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
