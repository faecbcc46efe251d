"""Per-example records of an evaluation.

`records/<model>/<protocol>/<attack>.npz` contains one value per image in each column, for the first images of the test
split: `index`, `label`, `clean_prediction`, `adversarial_prediction`, `norm` (the length of the perturbation in pixels
of [0, 1]: L∞, or the norm of the attack's budget), `queries` (images that the attacked model classified per example,
averaged over the batch) and `image` (a hash of 64 bits; records made before November 2026 lack it). Under a target
there is also `target`, and where images are kept `rounded_prediction`, the prediction after rounding to 8 bits. Records
of another threat model than Table 1's budgets lie in `threat-models/<norm and ε>/` instead of `records/`. `settings` is
JSON: the attack's keywords and all else that determines the result. A file contains whole batches only, so an
evaluation resumes at its end.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grfd.errors import UserError
from grfd.files import read_regular
from grfd.runs import write_bytes

COLUMNS = ("index", "label", "clean_prediction", "adversarial_prediction", "norm", "queries")
LATER = ("image", "target", "rounded_prediction")
"""Columns that not every record has."""
WHOLE_NUMBERS = ("index", "label", "clean_prediction", "adversarial_prediction", *LATER)
"""Columns of whole numbers. The other columns contain finite floating-point numbers."""
LARGEST_FILE = 2**30
"""Size limit in bytes. A record of ten million images is smaller."""


@dataclass(frozen=True, eq=False)
class Record:
    """The outcome of one attack on one model under one protocol, with one value per example in each column."""

    columns: dict[str, np.ndarray]
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.columns["index"])

    @property
    def clean(self) -> np.ndarray:
        """Whether each clean image is classified correctly."""
        return self.columns["clean_prediction"] == self.columns["label"]

    @property
    def robust(self) -> np.ndarray:
        """Whether each example is classified correctly both before and after the attack."""
        return self.clean & (self.columns["adversarial_prediction"] == self.columns["label"])

    @property
    def hit(self) -> np.ndarray:
        """Whether each example is mistaken for its target. An example of the target's own class does not count."""
        target = self.columns["target"]
        return (self.columns["adversarial_prediction"] == target) & (self.columns["label"] != target)

    def rows(self, start: int, stop: int) -> "Record":
        return Record({name: values[start:stop] for name, values in self.columns.items()}, self.settings)


RECORDS = "records"
"""Folder of the records whose budgets are those of Table 1."""
THREAT_MODELS = "threat-models"
"""Folder of the records of other threat models, each in a folder of its own."""


def path_of(folder: Path, model: str, protocol: str, attack: str, root: str = RECORDS) -> Path:
    """The file of a record. `root`: one of `roots_of`."""
    return folder / root / model / protocol / f"{attack.replace(':', '+')}.npz"


def roots_of(folder: Path) -> list[str]:
    """The folders of a run that hold records: that of Table 1's budgets, then one for each other threat model."""
    others = sorted(path.name for path in (folder / THREAT_MODELS).glob("*") if path.is_dir())
    return [RECORDS, *(f"{THREAT_MODELS}/{name}" for name in others)]


_KEPT: ContextVar[dict[Path, Record] | None] = ContextVar("kept records", default=None)


@contextmanager
def each_read_once() -> Iterator[None]:
    """Inside, a record that was read is kept, for a page that needs most records many times. Nothing may write them."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def read_record(path: Path) -> Record | None:
    """The record, or None if there is no file yet. Raises `UserError` if the file is damaged."""
    kept = _KEPT.get()
    if kept is None:
        return _read_record(path)
    if path not in kept and (record := _read_record(path)) is not None:
        for values in record.columns.values():
            values.flags.writeable = False
        kept[path] = record
    return kept.get(path)


def _read_record(path: Path) -> Record | None:
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
        raise UserError(f"{path} is damaged ({wrong}): delete it, and run the evaluation again")
    return record


def read_settings(path: Path) -> dict[str, Any]:
    """Only the settings of a record. Raises `UserError` if the file is damaged."""
    try:
        with np.load(io.BytesIO(read_regular(path, LARGEST_FILE)), allow_pickle=False) as stored:
            settings = json.loads(str(stored["settings"]))
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): delete it, and run the evaluation again"
        ) from error
    return dict(settings) if isinstance(settings, dict) else {}


def _wrong_with(record: Record) -> str:
    """What shows that grfd did not write this record; empty if nothing does."""
    if not isinstance(record.settings, dict) or not isinstance(record.settings.get("attack"), dict):
        return "its settings name no attack"
    shapes = {values.shape for values in record.columns.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        return "its columns have different lengths"
    for name, values in record.columns.items():
        if name in WHOLE_NUMBERS and values.dtype.kind not in "iu":
            return f"column {name} contains {values.dtype}, expected whole numbers"
        if name not in WHOLE_NUMBERS and (values.dtype.kind != "f" or not np.isfinite(values).all()):
            return f"column {name} does not contain finite numbers only"
    if not np.array_equal(record.columns["index"], np.arange(len(record))):
        return "column index does not count the images from 0"
    return "" if len(record) == 0 or record.columns["label"].min() >= 0 else "a label is negative"


def write_record(path: Path, record: Record) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, settings=np.array(json.dumps(record.settings)), **record.columns)
    write_bytes(path, buffer.getvalue())


def append_record(path: Path, more: Record) -> None:
    """Appends a batch to a record file. Rows from the first image of the batch on are replaced."""
    old, start = read_record(path), int(more.columns["index"][0])
    columns = more.columns
    if old is not None and start:
        shared = [name for name in more.columns if name in old.columns]
        columns = {name: np.concatenate([old.columns[name][:start], more.columns[name]]) for name in shared}
    write_record(path, Record(columns, more.settings))


def read_records(folder: Path, model: str | None = None, root: str = RECORDS) -> dict[tuple[str, str, str], Record]:
    """All records of a run folder in one threat model, or those of one model: (model, protocol, attack) → record."""
    by_cell = {}
    paths = (folder / root / model).glob("*/*.npz") if model else (folder / root).glob("*/*/*.npz")
    for path in sorted(paths):
        record = read_record(path)
        assert record is not None
        by_cell[path.parent.parent.name, path.parent.name, path.stem.replace("+", ":")] = record
    return by_cell


def worst_case(records: list[Record]) -> np.ndarray:
    """Whether each example is classified correctly under *every* attack, over the examples in all records."""
    shared = min(len(record) for record in records)
    return np.logical_and.reduce([record.robust[:shared] for record in records])


def lowest_worst_case(records: list[Record]) -> np.ndarray:
    """The worst case of a line, which is at most the accuracy of each of its attacks, although they met unequal counts.

    For each number n of images on which an attack was run: the worst case of the first n images under all attacks that
    met them. The lowest share counts, and of equal shares the one of the most images.
    """
    counts = sorted({len(record) for record in records if len(record)}, reverse=True)
    cases = [worst_case([record for record in records if len(record) >= count]) for count in counts]
    return min(cases, key=np.mean, default=np.zeros(0, dtype=bool))
