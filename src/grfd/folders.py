"""Writing in folders: files appear whole or not at all, one process writes, and nothing of the user's is touched."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
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
"""How the names of files end that are being written. Nobody else uses it, so that what a kill left can be removed."""

_PLAIN_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""No link is followed, and a pipe is not waited for, on the systems that have them."""

_LONGEST_NAME = 255
"""Bytes of a file's name that common file systems allow."""


@dataclass
class _Hold:
    """A folder that this process has locked: device and inode of its lock, and whether it holds a run by now."""

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
    """Writes to a temporary name, flushes to disk and renames: a reader sees the old file or the new one, whole.

    Of several processes of one job the main one writes. Raises `UserError` where the disk is full, where the folder
    cannot be written, and where the folder that this process has locked is gone.
    """
    if not processes.is_main():
        return
    try:
        _refuse_lost(path.absolute())
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except (OSError, ValueError) as error:  # ValueError: a path without a name, or one that cannot be encoded
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError(f"no disk space left to write {path} ({len(content):,} bytes)") from error
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    if path.name == CONFIG and (hold := _HELD.get(path.absolute().parent)):
        hold.is_run = True


def _replace(path: Path, content: bytes) -> None:
    partial = partial_of(path)
    partial.unlink(missing_ok=True)  # what a killed process left
    with partial.open("xb") as handle:  # never through a link that lies there
        try:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, in UTF-8. Names of files that are no valid text are escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    try:
        write_bytes(path, text.encode())
    except UnicodeEncodeError:
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def _refuse_lost(place: Path) -> None:
    """Raises `UserError` where a folder that holds `place` was removed or replaced since this process locked it."""
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
    """Holds a folder for this process, and makes it where it is missing. Raises `Busy` where another process holds it.

    The lock is the kernel's, so it is gone with the process that held it, however that ended. A lock file and folders
    that were made for it, and in which nothing was written, are gone at the end.
    """
    missing = [folder for folder in (path, *path.parents) if not is_there(folder)]  # the innermost first
    try:
        path.mkdir(parents=True, exist_ok=True)
        place = path.absolute()
        handle, made = _locked(place)
    except (OSError, ValueError) as error:
        _remove_empty(missing)
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
        if made and _identity(place / LOCK) == lock:
            with suppress(OSError):  # Windows removes no open file: the lock file then stays, which does no harm
                (place / LOCK).unlink()
        os.close(handle)
        _remove_empty(missing)


def _locked(folder: Path) -> tuple[int, bool]:
    """The lock file, open and locked, and whether it was made here.

    Its last holder may remove it between the opening and the locking. It is then made once more.
    """
    while True:
        made = not os.path.lexists(folder / LOCK)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | _PLAIN_FILE, 0o644)
        try:
            if not filelock.lock_descriptor(handle, blocking=False):
                raise Busy
        except (OSError, Busy):
            os.close(handle)
            raise
        status = os.fstat(handle)
        if _identity(folder / LOCK) == (status.st_dev, status.st_ino):
            return handle, made
        os.close(handle)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def remove_partial(run: Path) -> None:
    """Removes what killed processes left half-written in a run folder; not in another run that lies inside of it."""
    for name, folders, files in os.walk(run):
        here = Path(name)
        folders[:] = [each for each in folders if not os.path.lexists(here / each / CONFIG)]
        for file in (here / each for each in files if each.startswith(".") and each.endswith(PARTIAL)):
            with suppress(OSError):
                if stat.S_ISREG(file.lstat().st_mode):
                    file.unlink()
