"""The run folder: what every command reads and writes. Files appear whole or not at all, and one process writes."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from grfd import processes
from grfd.config import Config
from grfd.errors import Busy, UserError

PACKAGES = ("grfd", "torch", "numpy", "accelerate", "safetensors", "pillow")


@dataclass(frozen=True)
class Run:
    """A run folder's path and the configuration in it."""

    path: Path
    config: Config

    def file(self, name: str) -> Path:
        return self.path / name

    def has(self, name: str) -> bool:
        return (self.path / name).exists()


def create(path: Path, config: Config) -> Run:
    """The run folder at `path`, made if it is not there.

    Raises `UserError` where the folder holds a run of another configuration, or something that is no run. Collective.
    """
    run = _created(path, config) if processes.is_main() else None
    processes.wait()
    return run or load(path)


def _created(path: Path, config: Config) -> Run:
    if (path / "config.json").exists():
        refuse_another(path, config)
        return load(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: expected a folder for the run")
    if path.is_dir() and any(entry.name != ".lock" for entry in path.iterdir()):
        raise UserError(f"{path} is not empty and holds no run (no config.json): choose another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the run folder {path}: {error.strerror}") from error
    write_json(path / "config.json", {"config": _plain(config), **provenance()})
    return Run(path, config)


def refuse_another(path: Path, config: Config) -> None:
    """Raises `UserError` where the folder holds a run of another configuration."""
    if not (path / "config.json").exists():
        return
    found = load(path).config
    differing = [f.name for f in fields(Config) if getattr(found, f.name) != getattr(config, f.name)]
    if differing:
        changes = ", ".join(f"{n} {getattr(found, n)} → {getattr(config, n)}" for n in differing)
        moved = f", or, where the same images have moved, change data_dir in {path / 'config.json'}"
        way_out = "choose another folder" + (moved if differing == ["data_dir"] else "")
        raise UserError(f"{path} holds a run of another configuration ({changes}): {way_out}")


def load(path: Path) -> Run:
    """The run in a folder. Raises `UserError` where there is none, or its config.json cannot be read."""
    file = path / "config.json"
    if not file.exists():
        raise UserError(f"{path} holds no run: {file} is not there")
    try:
        stored = json.loads(file.read_text())["config"]
        stored["alpha"] = tuple(stored["alpha"])
        stored["data_dir"] = Path(stored["data_dir"]) if stored["data_dir"] else None
        return Run(path, Config(**stored))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read as a run's configuration: {error}") from error


def _plain(config: Config) -> dict[str, Any]:
    return asdict(config) | {"data_dir": str(config.data_dir) if config.data_dir else None}


def provenance() -> dict[str, Any]:
    """Versions, git revision and machine: what a reader needs to run it again."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "git_revision": _git_revision(),
        "machine": {"system": platform.platform(), "processors": os.cpu_count(), "threads": torch.get_num_threads()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Of the checkout that the package runs from, "+" behind it where the package differs; None for a wheel."""
    here = Path(__file__).parent
    try:
        answers = [
            subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True).stdout
            for arguments in (["ls-files", "runs.py"], ["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    tracked, revision, changes = (answer.strip() for answer in answers)
    return (revision + ("+" if changes else "")) if tracked else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the run folder for this process. Raises `Busy`, a `UserError`, where another process holds it.

    The lock is the kernel's, so it is gone with the process that held it, however that ended. A folder that was made
    for it, and in which nothing was written, is gone at the end. Of several processes of one job the main one holds it.
    Collective.
    """
    with _lock(path) if processes.is_main() else nullcontext():
        processes.wait()
        yield


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"cannot write in the run folder {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"another process is at work in {path}: wait for it, or choose another folder") from error
        for leftover in path.rglob("*.tmp"):
            leftover.unlink(missing_ok=True)
        yield
    finally:
        if made and [file.name for file in path.iterdir()] == [".lock"]:
            (path / ".lock").unlink()
            path.rmdir()
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes to a temporary name, flushes to disk and renames: a reader sees the old file or the new one, whole.

    Of several processes of one job the main one writes. Raises `UserError` where the disk is full or the folder cannot
    be written.
    """
    if not processes.is_main():
        return
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise UserError(f"no disk space left to write {path} ({len(content):,} bytes)") from error
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def write_json(path: Path, content: Any) -> None:
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_tensors(path: Path, tensors: dict[str, Tensor], **metadata: str) -> None:
    """Writes a safetensors file; shared storage is copied apart. Afterwards every process can read it. Collective."""
    if processes.is_main():
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(path, safetensors.torch.save(plain, metadata))
    processes.wait()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file. Raises `UserError` where it is not there or not whole."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: train that stage first") from error
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error})") from error


def fingerprint(module: torch.nn.Module) -> str:
    """SHA-256 of a module's parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Loads a module's weights. Raises `UserError` where the file is of another architecture."""
    tensors = read_tensors(path)
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            found = f"{tuple(tensors[name].shape)}" if name in tensors else "nothing"
            raise UserError(f"{path} fits another network: expected {name} of {tuple(tensor.shape)}, found {found}")
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise UserError(f"{path} fits another network: it also holds {unknown[0]}")
    module.load_state_dict(tensors)
