"""Reads chosen members of a .tar.gz file. Others are skipped, and sizes above a limit are refused."""

import gzip
import io
import tarfile
from collections.abc import Set
from pathlib import Path
from typing import BinaryIO

from grfd.errors import UserError
from grfd.files import open_regular, reason

MEMBER_LIMIT = 2**28
"""Size in bytes of the largest member that is read. The largest in the official archives has 155 million."""
ARCHIVE_LIMIT = 2**31
"""Size in bytes of the largest archive, unpacked. Skipped members count, because they must be unpacked too."""
MOST_MEMBERS = 10_000
_CHUNK = 2**20


class _Stream(gzip.GzipFile):
    """A gzipped file that refuses to read more than `MEMBER_LIMIT` at once or to pass `ARCHIVE_LIMIT`.

    This is needed because `tarfile` reads a long name at once, whatever size the archive claims for it.
    """

    def __init__(self, handle: BinaryIO) -> None:
        super().__init__(fileobj=handle, mode="rb")

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MEMBER_LIMIT:
            raise tarfile.ReadError(f"it asks for {size} bytes at once; expected at most {MEMBER_LIMIT:,}")
        self._check(self.tell() + size)
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check(offset)
        return super().seek(offset, whence)

    @staticmethod
    def _check(position: int) -> None:
        if position > ARCHIVE_LIMIT:
            raise tarfile.ReadError(f"it has more than {ARCHIVE_LIMIT:,} bytes unpacked")


def members(file: Path, wanted: Set[str]) -> dict[str, bytes]:
    """The contents of the members whose names, without folders, are in `wanted`.

    Raises `UserError` where one is missing or too large, or where the archive is damaged.
    """
    try:
        with open_regular(file) as handle, _Stream(handle) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                contents = _wanted(file, archive, wanted)
            while stream.read(_CHUNK):  # to the end, where the checksum is verified
                pass
    except UserError:
        raise
    except Exception as error:  # damaged headers may raise any exception
        raise UserError(
            f"{file} is not a complete archive ({reason(error)}): delete it and download it again"
        ) from error
    for name in sorted(wanted - contents.keys()):
        raise UserError(f"{file} holds no {name}: delete it and download it again")
    return contents


def _wanted(file: Path, archive: tarfile.TarFile, wanted: Set[str]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for count, member in enumerate(archive):
        name = member.name.rsplit("/", 1)[-1]
        if count == MOST_MEMBERS:
            raise UserError(f"{file} holds more than {MOST_MEMBERS:,} members; expected a CIFAR archive")
        if name not in wanted or name in contents or not member.isfile():
            continue
        if member.size > MEMBER_LIMIT:
            raise UserError(f"{file / name} has {member.size:,} bytes; expected at most {MEMBER_LIMIT:,}")
        handle = archive.extractfile(member)
        if handle is not None:
            contents[name] = handle.read()
    return contents
