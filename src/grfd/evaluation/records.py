"""Per-example records of an evaluation, and the accuracies that follow from them.

`records/<model>/<protocol>/<attack>.npz` holds, for the first images of the test split: `index`, `label`,
`clean_prediction`, `adversarial_prediction`, `norm` (L∞ of the perturbation, in pixels of [0, 1]), `queries` (images
that the attacked model was shown, an example, the mean of its batch), and `settings` (JSON: the attack's keywords, and
for a random model how often it was asked). `image`: 64 bits of each image's content; records made before November 2026
have no such column. A file holds whole batches only, so an evaluation resumes at its end.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grfd.errors import UserError
from grfd.files import read_regular
from grfd.runs import write_bytes

COLUMNS = ("index", "label", "clean_prediction", "adversarial_prediction", "norm", "queries")
LATER = ("image",)
"""Columns that older records lack."""
WHOLE_NUMBERS = ("index", "label", "clean_prediction", "adversarial_prediction", "image")
"""Columns of whole numbers; the others hold finite ones."""


LARGEST_FILE = 2**30
"""Bytes: a record of ten million images is smaller."""


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


def read_record(path: Path) -> Record | None:
    """The record, or None where there is none yet. Raises `UserError` where the file is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(read_regular(path, LARGEST_FILE)), allow_pickle=False) as stored:
            names = [*COLUMNS, *(name for name in LATER if name in stored.files)]
            record = Record({name: stored[name] for name in names}, json.loads(str(stored["settings"])))
        wrong = _wrong_with(record)
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        wrong = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if wrong:
        raise UserError(f"{path} is no whole record ({wrong}): delete it to make it anew")
    return record


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a record alone. Raises `UserError` where the file is damaged."""
    try:
        with np.load(io.BytesIO(read_regular(path, LARGEST_FILE)), allow_pickle=False) as stored:
            settings = json.loads(str(stored["settings"]))
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise UserError(f"{path} is no whole record ({type(error).__name__}): delete it to make it anew") from error
    return dict(settings) if isinstance(settings, dict) else {}


def _wrong_with(record: Record) -> str:
    """What no record that grfd wrote can have; empty where nothing is wrong."""
    if not isinstance(record.settings, dict) or not isinstance(record.settings.get("attack"), dict):
        return "its settings name no attack"
    shapes = {values.shape for values in record.columns.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        return "its columns have different lengths"
    for name, values in record.columns.items():
        if name in WHOLE_NUMBERS and values.dtype.kind not in "iu":
            return f"column {name} holds {values.dtype}, expected whole numbers"
        if name not in WHOLE_NUMBERS and (values.dtype.kind != "f" or not np.isfinite(values).all()):
            return f"column {name} holds something else than finite numbers"
    if not np.array_equal(record.columns["index"], np.arange(len(record))):
        return "column index does not count the images from 0"
    return "" if len(record) == 0 or record.columns["label"].min() >= 0 else "a label is negative"


def write_record(path: Path, record: Record) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, settings=np.array(json.dumps(record.settings)), **record.columns)
    write_bytes(path, buffer.getvalue())


def append_record(path: Path, more: Record) -> None:
    """Adds a batch at the end of a record file."""
    old = read_record(path)
    columns = (
        more.columns
        if old is None
        else {name: np.concatenate([old.columns[name], more.columns[name]]) for name in more.columns}
    )
    write_record(path, Record(columns, more.settings))


def read_records(folder: Path, model: str | None = None) -> dict[tuple[str, str, str], Record]:
    """All records of a run folder, or those of one model: (model, protocol, attack) → record."""
    found = {}
    paths = (folder / "records" / model).glob("*/*.npz") if model else (folder / "records").glob("*/*/*.npz")
    for path in sorted(paths):
        record = read_record(path)
        assert record is not None
        found[path.parent.parent.name, path.parent.name, path.stem] = record
    return found


def worst_case(records: list[Record]) -> np.ndarray:
    """Whether each example is right under *every* attack, over the examples that all records have."""
    shared = min(len(record) for record in records)
    return np.logical_and.reduce([record.robust[:shared] for record in records])
