"""Writes in folders: files appear complete or not at all, one process writes, and the user's files stay untouched."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from grfd import processes
from grfd.errors import Busy, UserError
from grfd.files import is_there, reason

LOCK = ".lock"
CONFIG = "config.json"
PARTIAL = ".grfd-partial"
"""Suffix of files that are being written. Nothing else uses it, so what a killed process left can be removed."""

_PLAIN_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags to follow no link and to wait for no pipe, on the systems that have them."""

_LONGEST_NAME = 255
"""Bytes of the longest file name that common file systems allow."""


@dataclass
class _Hold:
    """A folder that this process has locked: device and inode of its lock file, and whether it contains a run."""

    lock: tuple[int, int]
    is_run: bool


_HELD: dict[Path, _Hold] = {}


def partial_of(path: Path) -> Path:
    """The temporary name beside `path` under which its content is written first."""
    name = f".{path.name}{PARTIAL}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{PARTIAL}"
    return path.with_name(name)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes to a temporary name, flushes to disk and renames: a reader sees the old file or the complete new one.

    Only the main process of a job writes. Raises `UserError` if the disk is full, if the folder cannot be written, or
    if the folder that this process has locked was removed.
    """
    write_pieces(path, [content], len(content))


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview], size: int) -> None:
    """The same for a file that is made piece by piece, because it is too large to be in memory. `size`: its bytes."""
    if not processes.is_main():
        return
    try:
        _refuse_lost(path.absolute())
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, pieces)
    except (OSError, ValueError) as error:  # ValueError: a path without a name, or one that cannot be encoded
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError(f"no disk space left to write {path} ({size:,} bytes)") from error
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    if path.name == CONFIG and (hold := _HELD.get(path.absolute().parent)):
        hold.is_run = True


def _replace(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    partial = partial_of(path)
    partial.unlink(missing_ok=True)  # left by a killed process
    with partial.open("xb") as handle:  # "x" never follows a link
        try:
            for piece in pieces:
                handle.write(piece)
            handle.flush()
            os.fsync(handle.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_json(path: Path, content: Any) -> None:
    """Writes JSON in UTF-8. File names that are not valid text are escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        write_bytes(path, text.encode())
    except UnicodeEncodeError:
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def _refuse_lost(place: Path) -> None:
    """Raises `UserError` if a folder that contains `place` was removed or replaced since this process locked it."""
    for folder, hold in _HELD.items():
        if place.is_relative_to(folder):
            emptied = hold.is_run and not os.path.lexists(folder / CONFIG)
            if emptied or _identity(folder / LOCK) != hold.lock:
                raise UserError(f"{folder} was removed or replaced while grfd worked in it: nothing is written there")


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Locks a folder for this process, and creates it if it is missing. Raises `Busy` if another process has locked it.

    The kernel releases the lock when the process ends, however it ends. At the end, a lock file that was created here
    is removed, and so are folders that were created for it and are still empty.
    """
    missing = [folder for folder in (path, *path.parents) if not is_there(folder)]  # the innermost first
    try:
        path.mkdir(parents=True, exist_ok=True)
        place = path.absolute()
        handle, is_new = _locked(place)
    except (OSError, ValueError) as error:
        remove_empty(missing)
        raise UserError(f"cannot write in the run folder {path}: {reason(error)}") from error
    except Busy as error:
        raise Busy(f"another process is at work in {path}: wait for it, or choose another folder") from error
    status = os.fstat(handle)
    lock = (status.st_dev, status.st_ino)
    _HELD[place] = _Hold(lock, is_run=os.path.lexists(place / CONFIG))
    try:
        yield
        _refuse_lost(place)
    finally:
        del _HELD[place]
        if is_new and _identity(place / LOCK) == lock:
            with suppress(OSError):  # Windows does not remove open files: then the lock file stays, without harm
                (place / LOCK).unlink()
        os.close(handle)
        remove_empty(missing)


def _locked(folder: Path) -> tuple[int, bool]:
    """The lock file, opened and locked, and whether it was created here.

    Its last holder may remove it after it was opened and before it is locked. Then it is created again.
    """
    while True:
        is_new = not os.path.lexists(folder / LOCK)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | _PLAIN_FILE, 0o644)
        try:
            if not filelock.lock_descriptor(handle, blocking=False):
                raise Busy
        except (OSError, Busy):
            os.close(handle)
            raise
        status = os.fstat(handle)
        if _identity(folder / LOCK) == (status.st_dev, status.st_ino):
            return handle, is_new
        os.close(handle)


def remove_empty(folders: list[Path]) -> None:
    """Removes those folders that are empty, in this order."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def remove_partial(run: Path) -> None:
    """Removes the partial files that killed processes left in a run folder, but not those of another run inside it."""
    for name, folders, files in os.walk(run):
        here = Path(name)
        folders[:] = [each for each in folders if not os.path.lexists(here / each / CONFIG)]
        for file in (here / each for each in files if each.startswith(".") and each.endswith(PARTIAL)):
            with suppress(OSError):
                if stat.S_ISREG(file.lstat().st_mode):
                    file.unlink()
