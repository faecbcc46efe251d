"""How long the cells of an experiment took: measured while they run, and shown by --dry-run and --list."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from grfd import runs
from grfd.errors import UserError
from grfd.files import is_there, read_regular

MINUTES_FILE = "minutes.json"
"""In the folder of an experiment: scale → cell → minutes, processors and threads."""


def store_minutes(folder: Path, scale: str, cell: str, minutes: float, file: str = MINUTES_FILE) -> None:
    """Adds the time of a cell that has just been done. `file`: each of several machines has one of its own."""
    content = _read(folder / file)
    machine = {"processors": os.cpu_count(), "threads": torch.get_num_threads()}
    content.setdefault(scale, {})[cell] = {"minutes": round(minutes, 2)} | machine
    runs.write_json(folder / file, content)


def minutes_file_of_shard(number: int, count: int) -> str:
    """The file of one of several machines that share a folder."""
    return MINUTES_FILE if count == 1 else f"minutes-{number}-of-{count}.json"


def measured_minutes(folder: Path, scale: str) -> dict[str, float]:
    """Cell → minutes: those that were measured in this folder, else those of the kept runs in results/."""
    kept = Path("results") / folder.name
    cells = all_minutes(kept).get(scale, {}) | all_minutes(folder).get(scale, {})
    return {name: cell["minutes"] for name, cell in cells.items()}


def keep_minutes(run: Path, kept: Path) -> None:
    """Adds the measured minutes of the experiment of a run, which lie in a folder above it, to those of the kept run.

    `kept`: the folder to which the run was copied, under the same path below results/ as below runs/.
    """
    for above, kept_above in zip(run.absolute().parents, kept.absolute().parents, strict=False):
        if above.name == "runs":
            return
        measured = all_minutes(above)
        if measured:
            content = _read(kept_above / MINUTES_FILE)
            merged = {scale: content.get(scale, {}) | cells for scale, cells in measured.items()}
            runs.write_json(kept_above / MINUTES_FILE, content | merged)


def all_minutes(folder: Path) -> dict[str, Any]:
    """Scale → cell → time, as all machines that share the folder have measured it."""
    content: dict[str, Any] = {}
    for file in sorted(folder.glob("minutes*.json")):
        for scale, cells in _read(file).items():
            content[scale] = content.get(scale, {}) | cells
    return content


def _read(file: Path) -> dict[str, Any]:
    if not is_there(file):
        return {}
    try:
        content = json.loads(read_regular(file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}): delete it, and the times are measured again") from error
    if not _is_right(content):
        raise UserError(f"{file} is damaged: expected scale → cell → minutes. Delete it, and they are measured again")
    return dict(content)


def _is_right(content: object) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(cells, Mapping)
        and all(isinstance(cell, Mapping) and isinstance(cell.get("minutes"), int | float) for cell in cells.values())
        for cells in content.values()
    )
