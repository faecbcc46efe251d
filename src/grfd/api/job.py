"""What a command begins with: a run folder, its data set, its architecture, and the caller's arguments, checked."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from grfd import data as datasets
from grfd import runs
from grfd.config import Config
from grfd.data.record import Data, Split, checked_data
from grfd.errors import UserError
from grfd.models import Architecture, architecture
from grfd.models.own import factory
from grfd.runs import Run
from grfd.training.job import Job

Source = Path | str | Run
OwnModel = Architecture | str
"""What makes the target model: a function or class, or the name of one that the caller wants to be imported."""


@dataclass(frozen=True)
class Own:
    """What a caller brings in place of what a configuration names."""

    data: Data | None = None
    model: OwnModel | None = None
    trust: bool = False
    """Whether the user asked for the code that the configuration names as its model (`build_architecture`)."""


AS_NAMED = Own()
"""Nothing of the caller's own: data and model are those that the configuration names."""


def open_job(source: Source, own: Own = AS_NAMED) -> Job:
    """A run with its data and its target model. Raises `UserError` where one of them cannot be had."""
    run = open_run(source)
    data = load_data(run, own.data)
    return Job(run, data, build_architecture(run.config, data, own.model, trust=own.trust))


def open_run(source: Source) -> Run:
    """A run, from its folder. Raises `UserError` where there is none."""
    return source if isinstance(source, Run) else runs.load(as_path(source, "the run folder"))


def load_data(run: Run, data: Data | None = None) -> Data:
    """The run's data set; `data` where it was trained on tensors. Raises `UserError` where it cannot be had."""
    if data is None and run.config.data not in datasets.DATASETS:
        raise UserError(f"{run.path} was trained on {run.config.data!r}, tensors of your own: give them as data=")
    return named_data(run.config, data)


def named_data(config: Config, data: Data | None = None) -> Data:
    """The data set that a configuration names, or `data` itself, checked."""
    return datasets.load(config.data, config.data_dir) if data is None else own_data(data)


def own_data(data: object) -> Data:
    """A caller's data, checked. Tensors made under `torch.inference_mode` are copied, since they take no gradient."""
    if not isinstance(data, Data):
        raise UserError(f"data is a {type(data).__name__}: expected what grfd.from_tensors or grfd.load returns")
    return checked_data(replace(data, train=_plain(data.train), test=_plain(data.test)))


def _plain(split: Split) -> Split:
    images, labels = (
        each.clone() if isinstance(each, Tensor) and each.is_inference() else each
        for each in (split.images, split.labels)
    )
    return Split(images, labels)


def build_architecture(
    config: Config, data: Data, model: OwnModel | None = None, *, trust: bool = False
) -> Architecture:
    """The target's constructor: the registered one, or the user's own.

    `trust`: whether the user has asked for the code that `config` names. Without it no code is imported by a name that
    only a run folder says, because that folder may come from somebody else. Raises `UserError`.
    """
    if model is not None and not isinstance(model, str):
        return factory(repr(config.model), model)
    name = config.model if model is None else model
    if ":" in name and model is None and not trust:
        raise UserError(
            f"the run folder names code, the model {name!r}, which is not imported without your consent: if you trust "
            "that code, add --trust, or name it again with --model where a command has it (in Python: trust=True or "
            "model=)"
        )
    channels, height, width = data.train.images.shape[1:]
    return architecture(name, channels=channels, classes=len(data.classes), height=height, width=width)


def as_path(value: object, name: str) -> Path:
    """A path that the caller gives. Raises `UserError` for what is no path, and for an empty one."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise UserError(f"{name} is {value!r}: expected a path")
    return Path(value)


def as_names(values: object, name: str) -> list[str]:
    """Names that the caller gives, one alone too. Raises `UserError` for what is no text."""
    given = [values] if isinstance(values, str) else values
    if not isinstance(given, Iterable) or isinstance(given, bytes | Tensor):
        raise UserError(f"{name} is {values!r}: expected a list of names")
    listed = list(given)
    for each in listed:
        if not isinstance(each, str):
            raise UserError(f"{name} holds {each!r}: expected names")
    return listed


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    runs.write_bytes(path, buffer.getvalue())
