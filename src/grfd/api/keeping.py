"""`grfd keep`: copies what a page is made of from a run folder in runs/ to the same place in results/."""

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grfd import runs
from grfd.api.job import as_path
from grfd.errors import UserError
from grfd.files import is_folder, is_there, reason
from grfd.folders import CONFIG

RUNS = "runs"
"""Folder below which runs lie. Their path below it is their path below results/."""

LARGEST_WEIGHTS = 7_000_000
"""Bytes of a weight file that is kept, so that a repository stays small."""

ALL_WEIGHTS = 150_000_000
"""Bytes of all weights in results/ beyond which a line of warning is printed."""

_SMALL_FILES = (".json", ".jsonl", ".npz")
_LEFT_OUT_FOLDERS = ("checkpoints", "kept-images", "stale-records")
_REBUILT = ("robust.safetensors", "examples.npz", "gallery.npz")
"""Files that a command makes again from the weights."""


@dataclass(frozen=True)
class KeptFile:
    """A file of a run folder: whether it was copied, and if not, why."""

    path: Path
    size: int
    reason: str = ""


def keep(source: Path | str, results: Path | str = "results", *, replace: bool = False) -> tuple[Path, list[KeptFile]]:
    """Copies a run folder from runs/ into `results`, under the same relative path.

    Records, configuration, metrics, other small files, and weights of at most 7 MB are copied. A folder that is kept
    already is exchanged as a whole. Without `replace` it is refused if it holds records that the run lacks.
    Returns the new folder and all files of the run. Raises `UserError` where there is no run, where it lies below no
    folder named runs, and where the copy cannot be written.
    """
    run = runs.load(as_path(source, "the run folder"))
    destination = as_path(results, "results") / _below_runs(run.path)
    files = [_looked_at(run.path, path) for path in sorted(_files_of(run.path))]
    copied = [each.path for each in files if not each.reason]
    if is_there(destination):
        _refuse_loss(destination, copied, replace)
    try:
        _exchange(run.path, copied, destination)
    except OSError as error:
        raise UserError(f"cannot write {destination}: {reason(error)}") from error
    return destination, files


def size_of_weights(results: Path) -> int:
    """Bytes of all weight files below a folder."""
    return sum(path.stat().st_size for path in results.rglob("*.safetensors"))


def _below_runs(path: Path) -> Path:
    parts = path.absolute().parts
    if RUNS not in parts[:-1]:
        raise UserError(
            f"{path} lies below no folder named {RUNS}: expected {RUNS}/NAME, which is kept as results/NAME"
        )
    last = len(parts) - 1 - parts[::-1].index(RUNS)
    return Path(*parts[last + 1 :])


def _files_of(folder: Path) -> Iterator[Path]:
    """Regular files at any depth, relative to the folder. Links are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not (Path(place) / name / CONFIG).exists()]  # runs of their own
        yield from ((Path(place) / name).relative_to(folder) for name in names if _is_plain(Path(place) / name))


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _looked_at(folder: Path, path: Path) -> KeptFile:
    size = (folder / path).stat().st_size
    if path.parts[0] in _LEFT_OUT_FOLDERS or path.name in _REBUILT:
        return KeptFile(path, size, "it can be made again, or is of an earlier evaluation")
    if path.suffix == ".safetensors":
        return KeptFile(
            path, size, "" if size <= LARGEST_WEIGHTS else f"weights of more than {LARGEST_WEIGHTS:,} bytes"
        )
    if path.suffix not in _SMALL_FILES or path.name.startswith("."):
        return KeptFile(path, size, "no page is made of it")
    return KeptFile(path, size)


def _refuse_loss(destination: Path, copied: list[Path], replace: bool) -> None:
    """What is kept already is exchanged only by a run that has at least its records."""
    if not is_folder(destination):
        raise UserError(f"{destination} is a file: expected a folder, or nothing")
    lost = [path for path in _files_of(destination) if path.parts[0] == "records" and path not in copied]
    if lost and not replace:
        raise UserError(
            f"{destination} holds {len(lost)} records that the run lacks, such as {lost[0]}: add --replace to lose them"
        )


def _exchange(source: Path, copied: list[Path], destination: Path) -> None:
    """Everything is copied beside the destination first, so that a kill leaves the old folder or the new one."""
    if is_there(destination) and _is_same(source, copied, destination):
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".keep-") as beside:
        for path in copied:
            (Path(beside) / "new" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, Path(beside) / "new" / path)
        if is_there(destination):
            _move_runs_inside(destination, Path(beside) / "new")
            destination.rename(Path(beside) / "old")
        (Path(beside) / "new").rename(destination)


def _move_runs_inside(old: Path, new: Path) -> None:
    """A kept folder may hold other kept runs, which stay."""
    for folder in sorted(old.iterdir()):
        if folder.is_dir() and any(folder.rglob(CONFIG)):
            shutil.copytree(folder, new / folder.name, dirs_exist_ok=True)


def _is_same(source: Path, copied: list[Path], destination: Path) -> bool:
    return sorted(_files_of(destination)) == sorted(copied) and all(
        filecmp.cmp(source / path, destination / path, shallow=False) for path in copied
    )
