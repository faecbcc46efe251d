"""The run folder, which every command reads or writes. Files appear complete or not at all, and one process writes."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from grfd import processes
from grfd.config import Config
from grfd.errors import UserError
from grfd.files import is_folder, is_there, listed, read_regular
from grfd.folders import CONFIG, LOCK, held, partial_of, remove_partial, write_bytes, write_json
from grfd.schema import from_plain
from grfd.tensors import fingerprint, images_of, load_weights, read_tensors, write_large, write_tensors

__all__ = [
    "Run",
    "create",
    "fingerprint",
    "images_of",
    "load",
    "load_weights",
    "locked",
    "provenance",
    "read_tensors",
    "recorded_images",
    "refuse_another",
    "refuse_foreign",
    "write_bytes",
    "write_json",
    "write_large",
    "write_tensors",
]

PACKAGES = ("grfd", "torch", "numpy", "accelerate", "safetensors", "pillow")


@dataclass(frozen=True)
class Run:
    """A run folder's path and the configuration in it."""

    path: Path
    config: Config

    def file(self, name: str) -> Path:
        """The path of a file in the run folder."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether a file of that name exists in the run folder."""
        return is_there(self.path / name)


Fingerprints = Mapping[str, str]
"""Split → fingerprint of its images and labels (`images_of`): train and test."""


def create(path: Path, config: Config, images: Fingerprints | None = None) -> Run:
    """The run folder at `path`, created if it is missing. `images`: fingerprints of its training and test images.

    Raises `UserError` if the folder contains a run with another configuration or with other images, or something that
    is not a run. A run without fingerprints of its images is accepted. Collective.
    """
    run = _created(path, config, images) if processes.is_main() else None
    processes.wait()
    return run or load(path)


def _created(path: Path, config: Config, images: Fingerprints | None) -> Run:
    refuse_foreign(path)
    if is_there(path / CONFIG):
        refuse_another(path, config)
        _refuse_other_images(path, images or {})
        return load(path)
    kept = {"images": dict(images)} if images else {}
    write_json(path / CONFIG, {"config": _plain(config), **kept, **provenance()})
    return Run(path, config)


def refuse_foreign(path: Path) -> None:
    """Raises `UserError` if `path` contains something other than a run. Nothing is created, changed or removed."""
    if is_there(path / CONFIG):
        load(path)
    elif is_there(path):
        if not is_folder(path):
            raise UserError(f"{path} is a file: expected a folder for the run")
        ours = (LOCK, partial_of(path / CONFIG).name)
        if any(entry.name not in ours for entry in listed(path)):
            raise UserError(f"{path} is not empty and holds no run (no {CONFIG}): choose another folder")


def refuse_another(path: Path, config: Config) -> None:
    """Raises `UserError` if the folder contains a run with another configuration."""
    if not is_there(path / CONFIG):
        return
    stored = load(path).config
    differing = [f.name for f in fields(Config) if getattr(stored, f.name) != getattr(config, f.name)]
    if differing:
        changes = ", ".join(f"{n} {getattr(stored, n)} → {getattr(config, n)}" for n in differing)
        moved = f", or, where the same images have moved, change data_dir in {path / CONFIG}"
        way_out = "choose another folder" + (moved if differing == ["data_dir"] else "")
        raise UserError(f"{path} holds a run of another configuration ({changes}): {way_out}")


def _refuse_other_images(path: Path, images: Fingerprints) -> None:
    stored = recorded_images(path)
    for split, now in images.items():
        if stored.get(split, now) != now:
            raise UserError(
                f"{path} holds a run of other images: those of the {split} split have changed since it was started; "
                "restore them, or choose another folder"
            )


def recorded_images(path: Path) -> Fingerprints:
    """The fingerprints of the images with which a run was started; empty if the run does not record them."""
    stored = _stored(path).get("images", {})
    if not isinstance(stored, dict) or not all(isinstance(each, str) for each in stored.values()):
        raise UserError(f"{path / CONFIG}: images: expected the fingerprint of each split")
    return stored


def load(path: Path) -> Run:
    """The run in a folder. Raises `UserError` if there is none, or if its config.json cannot be read."""
    stored = _stored(path)
    if "config" not in stored:
        raise UserError(f"{path / CONFIG} cannot be read as a run's configuration: config is missing")
    where = f"{path / CONFIG} cannot be read as a run's configuration"
    return Run(path, from_plain(Config, stored["config"], where))


def _stored(path: Path) -> dict[str, Any]:
    """The content of config.json. Raises `UserError` if it is missing or is not a JSON object."""
    file = path / CONFIG
    if not is_there(file):
        raise UserError(f"{path} holds no run: {file} is not there")
    content = read_regular(file)
    try:
        stored = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as a run's configuration: {error}") from error
    if not isinstance(stored, dict):
        raise UserError(f"{file} cannot be read as a run's configuration: expected an object with fields")
    return stored


def _plain(config: Config) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def provenance() -> dict[str, Any]:
    """Versions, git revision and machine, which a reader needs to repeat the run."""
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
    """The revision of the checkout, followed by "+" if the package has uncommitted changes; None for a wheel."""
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
def locked(path: Path, *, run: bool = True) -> Iterator[None]:
    """Locks the run folder for this process. Raises `Busy`, a `UserError`, if another process has locked it.

    A folder with other content is refused before anything is created or removed in it, except with `run=False`, which
    is for folders of records without a run. At the end, partial files of killed processes are removed. The main process
    of a job locks the folder. Collective.
    """
    with _locked(path, run) if processes.is_main() else nullcontext():
        processes.wait()
        yield


@contextmanager
def _locked(path: Path, run: bool) -> Iterator[None]:
    if run:
        refuse_foreign(path)
    with held(path):
        yield
        if run and is_there(path / CONFIG):
            remove_partial(path)
