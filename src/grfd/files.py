"""Reads a user's files: only regular files, only up to a size limit. Every failure is an error of one line.

A FIFO or a device is refused before it is opened, because opening or reading one may never return.
"""

import io
import os
import stat
from pathlib import Path

from grfd.errors import UserError

LIMIT = 2**30
"""Size limit in bytes of a file that is read at once, unless the caller gives another."""


def is_folder(path: Path) -> bool:
    """Whether this is a folder. Raises `UserError` if the system cannot tell, for example if the name is too long."""
    return stat.S_ISDIR(_mode(path))


def is_there(path: Path) -> bool:
    """Whether the path exists. Raises `UserError` as `is_folder` does."""
    return _mode(path) != 0


def is_regular(path: Path) -> bool:
    """Whether this is a regular file. Raises `UserError` as `is_folder` does."""
    return stat.S_ISREG(_mode(path))


def listed(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name. Raises `UserError` if it cannot be listed."""
    try:
        # By name, not by Path, whose order differs between systems.
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except (OSError, ValueError) as error:
        raise UserError(f"folder {folder} cannot be listed: {reason(error)}") from error


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file, opened for reading. Raises `UserError` for anything else."""
    mode = _mode(path)
    if not mode:
        raise UserError(f"{path} is not there; expected a file")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is {_kind(mode)}; expected a regular file")
    try:
        # Without O_NONBLOCK, this would wait if the file has become a FIFO in the meantime.
        handle = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from error
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise UserError(f"{path} is not a regular file any more; expected one")
    return handle


def read_regular(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a regular file. Raises `UserError` for anything else, and for a file of more than `limit` bytes."""
    try:
        with open_regular(path) as handle:
            # The size is read first, so that no time or memory is spent on a file that is too large.
            size = os.fstat(handle.fileno()).st_size
            content = handle.read(size + 1) if size <= limit else b""
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from error
    if size > limit:
        raise UserError(f"{path} has {size:,} bytes; expected at most {limit:,}")
    if len(content) > size:
        raise UserError(f"{path} grows while it is read; expected a file that nobody writes to")
    return content


def reason(error: BaseException) -> str:
    """The reason that an exception gives. For an `OSError` it is the system's message."""
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__


def _mode(path: Path) -> int:
    """The file type of a path, with links followed; 0 if the path does not exist."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:  # ValueError: a null character, or a name that cannot be encoded
        raise UserError(f"{path} cannot be opened: {reason(error)}") from error


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe (FIFO)", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
