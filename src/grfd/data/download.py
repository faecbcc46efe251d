"""Downloads files once, with a checksum, progress and resuming. A file is there completely or not at all."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from grfd.errors import UserError
from grfd.progress import progress

if TYPE_CHECKING:
    import requests

BYTES_AT_ONCE = 2**16
_LONGEST_SILENCE = 30
"""A connection that sends nothing for this many seconds is treated as broken."""
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416
"""Status codes of HTTP: the part that was asked for, and no such part because the file is complete."""


def cache() -> Path:
    """The folder of downloaded files, in the user's cache."""
    import pooch

    return Path(pooch.os_cache("grfd"))


def downloaded(url: str, md5: str, file: Path) -> Path:
    """Downloads `file` where it is missing. Raises `UserError` where that fails or the checksum is wrong.

    Bytes that have arrived are kept in FILE.part, so that an interrupted download resumes.
    """
    if file.exists():
        return file
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(url, f"md5:{md5}", fname=file.name, path=file.parent, downloader=_Resuming(file))
    except (requests.RequestException, OSError) as error:
        reason = type(error).__name__
        raise UserError(
            f"{url} cannot be downloaded ({reason}): put it at {file}, or give --data-dir FOLDER"
        ) from error
    except ValueError as error:  # what pooch raises for a wrong checksum
        _part(file).unlink(missing_ok=True)
        raise UserError(
            f"the download from {url} does not have the checksum {md5}: it was deleted, try again"
        ) from error
    _part(file).unlink(missing_ok=True)
    return file


class _Resuming:
    """A downloader for pooch: fetches what is missing in FILE.part, then gives pooch the complete file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, url: str, output_file: str, asking: object) -> None:
        import requests

        part = _part(self.file)
        part.parent.mkdir(parents=True, exist_ok=True)
        there = part.stat().st_size if part.exists() else 0
        with requests.get(
            url, headers={"Range": f"bytes={there}-"} if there else {}, stream=True, timeout=_LONGEST_SILENCE
        ) as answer:
            if answer.status_code != _RANGE_NOT_SATISFIABLE:
                answer.raise_for_status()
                _append(answer, part, there)
        Path(output_file).write_bytes(part.read_bytes())


def _append(answer: "requests.Response", part: Path, there: int) -> None:
    goes_on = answer.status_code == _PARTIAL_CONTENT
    done = there if goes_on else 0
    total = done + int(answer.headers.get("Content-Length", 0))
    with progress(f"download {part.stem}", total, done=done) as advance, part.open("ab" if goes_on else "wb") as handle:
        for chunk in answer.iter_content(BYTES_AT_ONCE):
            handle.write(chunk)
            advance(len(chunk), "bytes")


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".part")
