"""Per-example records of an evaluation, and the accuracies that follow from them.

`records/<model>/<protocol>/<attack>.npz` holds, for the first images of the test split: `index`, `label`,
`clean_prediction`, `adversarial_prediction`, `norm` (L∞ of the perturbation, in pixels of [0, 1]), `queries` (images
that the attacked model was shown, an example, the mean of its batch), and `settings` (JSON: the attack's keywords, and
for a random model how often it was asked). A file holds whole batches only, so an evaluation resumes at its end.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grfd.errors import UserError
from grfd.runs import write_bytes

COLUMNS = ("index", "label", "clean_prediction", "adversarial_prediction", "norm", "queries")


@dataclass(frozen=True, eq=False)
class Record:
    """What one attack did to one model under one protocol, a value an example in each column."""

    columns: dict[str, np.ndarray]
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.columns["index"])

    @property
    def clean(self) -> np.ndarray:
        """Whether each clean image is classified right."""
        return self.columns["clean_prediction"] == self.columns["label"]

    @property
    def robust(self) -> np.ndarray:
        """Whether each example is right on the clean image and still right after the attack."""
        return self.clean & (self.columns["adversarial_prediction"] == self.columns["label"])

    def rows(self, start: int, stop: int) -> "Record":
        return Record({name: values[start:stop] for name, values in self.columns.items()}, self.settings)


def path_of(folder: Path, model: str, protocol: str, attack: str) -> Path:
    return folder / "records" / model / protocol / f"{attack}.npz"


def read(path: Path) -> Record | None:
    """The record, or None where there is none yet. Raises `UserError` where the file is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return Record({name: stored[name] for name in COLUMNS}, json.loads(str(stored["settings"])))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no whole record ({error}): delete it to make it anew") from error


def write(path: Path, record: Record) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, settings=np.array(json.dumps(record.settings)), **record.columns)
    write_bytes(path, buffer.getvalue())


def append(path: Path, more: Record) -> None:
    """Adds a batch at the end of a record file."""
    old = read(path)
    columns = (
        more.columns
        if old is None
        else {name: np.concatenate([old.columns[name], more.columns[name]]) for name in COLUMNS}
    )
    write(path, Record(columns, more.settings))


def stored(folder: Path, model: str | None = None) -> dict[tuple[str, str, str], Record]:
    """All records of a run folder, or those of one model: (model, protocol, attack) → record."""
    found = {}
    paths = (folder / "records" / model).glob("*/*.npz") if model else (folder / "records").glob("*/*/*.npz")
    for path in sorted(paths):
        record = read(path)
        assert record is not None
        found[path.parent.parent.name, path.parent.name, path.stem] = record
    return found


def worst_case(records: list[Record]) -> np.ndarray:
    """Whether each example is right under *every* attack, over the examples that all records have."""
    shared = min(len(record) for record in records)
    return np.logical_and.reduce([record.robust[:shared] for record in records])
