"""The files of an experiment in an object store (S3, Google Cloud Storage, Azure), for machines that share no folder.

A machine fetches what the store has before it starts, and sends what it made after each cell. Both compare with a list
of the files on which folder and store last agreed, so that no clock is trusted and nothing is sent twice. fsspec, which
PyTorch needs too, accesses the stores; a store's own package is asked for by name where it is missing.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import fsspec

from grfd import runs
from grfd.errors import UserError
from grfd.files import is_there, read_regular
from grfd.folders import LOCK, PARTIAL, partial_of
from grfd.progress import side

_AGREED = "store.json"
"""In the folder of an experiment: store → file → its mark here, and its mark in the store, when the two were equal."""

_REDRAWN = (".png", ".pdf")
"""Pictures, which each machine draws from the arrays."""
_ABOUT = b"Runs of an experiment, exchanged by grfd reproduce --store.\n"


@dataclass(frozen=True)
class Store:
    """A place in an object store that mirrors the folder of an experiment."""

    files: Any
    """fsspec's AbstractFileSystem."""
    root: str
    folder: Path

    def at(self, name: str) -> str:
        return f"{self.root}/{name}"


def open_store(url: str, name: str, folder: Path) -> Store:
    """The place of an experiment below the URL. `name`: the same on all machines, wherever their folders lie.

    Raises `UserError` for an unknown kind of store, or a missing package.
    """
    if "://" not in url:
        raise UserError(f"--store {url}: expected a URL, such as s3://bucket/runs, or file:///PATH for a folder")
    # only local files need folders; elsewhere, makedirs would also create a bucket whose name is mistyped
    making: dict[str, Any] = {"auto_mkdir": True} if url.startswith(("file:", "local:")) else {}
    try:
        files, root = fsspec.core.url_to_fs(f"{url.rstrip('/')}/{name}", **making)
    except (ValueError, ImportError) as error:
        raise UserError(f"--store {url}: {error}") from error
    return Store(files, root.rstrip("/"), folder)


def fetch(store: Store) -> int:
    """Copies what is new in the store into the folder. Returns the number of files.

    Raises `UserError` where files were changed on both sides, before anything is copied, and where the store cannot be
    read or written, which is better known before the work begins.
    """
    agreed = _agreed(store)
    with _asked(store):
        store.files.pipe_file(store.at("README.txt"), _ABOUT)
        there = _in_store(store)
    here = _in_folder(store.folder)
    new = [name for name, mark in there.items() if name not in here or agreed.get(name, {}).get("store") != mark]
    changed = [name for name in new if name in here and here[name] != agreed.get(name, {}).get("here")]
    with _asked(store):
        _refuse(store, [name for name in changed if not _is_equal(store, name)])
        for name in new:
            if name not in changed:
                _download(store, name)
    _agree(store, agreed | {name: {"here": _mark(store.folder / name), "store": there[name]} for name in new})
    return len(new)


def send(store: Store) -> int:
    """Copies what is new in the folder, or missing in the store, into the store. Returns the number of files.

    A file that another machine has changed in the store meanwhile is not overwritten. Raises `UserError` for such
    files, when all others are sent, and where the store cannot be written.
    """
    agreed, sent, changed = _agreed(store), 0, []
    with _asked(store):
        there = _in_store(store)
    for name, mark in _in_folder(store.folder).items():
        known = agreed.get(name, {})
        if name in there and known.get("here") == mark:
            continue
        with _asked(store):
            if name in there and known.get("store") != there[name]:
                if not _is_equal(store, name):
                    changed.append(name)
                    continue
            else:
                store.files.put_file(str(store.folder / name), store.at(name))
                store.files.invalidate_cache()
                sent += 1
            agreed[name] = {"here": mark, "store": _store_mark(store.files.info(store.at(name)))}
        _agree(store, agreed)
    _refuse(store, changed)
    return sent


def _is_equal(store: Store, name: str) -> bool:
    return bool(store.files.cat_file(store.at(name)) == (store.folder / name).read_bytes())


def _refuse(store: Store, changed: Sequence[str]) -> None:
    """Nothing is lost: neither side of a file that both changed is overwritten."""
    if changed:
        folders = sorted({str((store.folder / name).parent) for name in changed})
        raise UserError(
            f"{', '.join(changed)}: changed here and in {store.root}. Two machines must not work on the same seed. "
            f"Delete on one side, whole: {', '.join(folders)}"
        )


def send_or_say(store: Store) -> None:
    """`send`, of which a failure costs no work: it is printed, and the next cell tries again."""
    try:
        send(store)
    except UserError as error:
        side.print(f"not stored, the next cell tries again: {error}")


def _download(store: Store, name: str) -> None:
    """Into a file beside it first, so that a stopped copy is not taken for the whole."""
    target = store.folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(target)
    store.files.get_file(store.at(name), str(partial))
    partial.replace(target)


def _in_store(store: Store) -> dict[str, str]:
    """File → its mark in the store."""
    store.files.invalidate_cache()
    try:
        found = store.files.find(store.root, detail=True)
    except FileNotFoundError:
        return {}
    start = len(store.root) + 1
    named = {path[start:]: info for path, info in found.items() if info.get("type") != "directory"}
    return {name: _store_mark(info) for name, info in named.items() if _is_exchanged(name)}


def _store_mark(info: dict[str, Any]) -> str:
    """What changes with a file's content there: its entity tag where the store has one, else size and time."""
    for key in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(key):
            return str(info[key])
    times = [str(info[key]) for key in ("mtime", "LastModified", "last_modified", "updated", "created") if key in info]
    return " ".join([str(info.get("size")), *times[:1]])


def _in_folder(folder: Path) -> dict[str, str]:
    """File → its mark here. A file that another process deletes meanwhile is left out."""
    marks = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        with suppress(FileNotFoundError):
            if _is_exchanged(name) and path.is_file():
                marks[name] = _mark(path)
    return marks


def _is_exchanged(name: str) -> bool:
    """The runs of all seeds, and how long cells took, without what belongs to one machine.

    Tables and pictures are left out, since each machine makes them anew. A name in a store may be anybody's: one that
    leads out of the folder is passed over.
    """
    first, *below = name.split("/")
    if not fnmatch(first, "*-seed-*" if below else "minutes*.json") or {"", ".", ".."} & {first, *below}:
        return False
    last = [first, *below][-1]
    return last != LOCK and not last.endswith((PARTIAL, *_REDRAWN))


def _mark(file: Path) -> str:
    known = file.stat()
    return f"{known.st_size} {known.st_mtime_ns}"


def _agreed(store: Store) -> dict[str, dict[str, str]]:
    """File → its marks on both sides when they were last equal. Of another store nothing is known."""
    content = _all_agreed(store.folder)
    return content.get(store.root, {})


def _all_agreed(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Place in a store → file → marks."""
    file = folder / _AGREED
    if not is_there(file):
        return {}
    with suppress(ValueError):
        content = json.loads(read_regular(file))
        if isinstance(content, dict):
            return content
    raise UserError(f"{file} is damaged: delete it, and the files are compared with those of the store again")


def _agree(store: Store, agreed: dict[str, dict[str, str]]) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(store.folder / _AGREED, _all_agreed(store.folder) | {store.root: agreed})


@contextmanager
def _asked(store: Store) -> Iterator[None]:
    """Stores raise many kinds of errors: no network, no permission, no bucket."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"no exchange between {store.folder} and {store.root}: {error}") from error
