"""Opens a run folder with its data and architecture, and checks the arguments of the public functions."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from grfd import data as datasets
from grfd import runs
from grfd.config import Config
from grfd.data import Preparation, reading
from grfd.data.map_style import data_from
from grfd.data.record import Data, Split, as_images, checked_data, joined
from grfd.errors import UserError
from grfd.models import Architecture, architecture
from grfd.models.opened import LogitsOf, with_plain_logits
from grfd.models.own import built_by, factory, imported
from grfd.runs import Run
from grfd.seeds import left_as_found
from grfd.training.job import Job

Source = Path | str | Run
OwnModel = Architecture | str
"""A function or class that makes the target model, or its name, which the caller wants to be imported."""


@dataclass(frozen=True)
class Own:
    """A caller's own data and model, which replace those that the configuration names."""

    data: Data | None = None
    model: OwnModel | None = None
    trust: bool = False
    """Whether the user consents to import the code that the configuration names as its model."""
    trust_data: bool | None = None
    """The same for the code that it names as its data. None: as `trust`."""

    @property
    def data_is_trusted(self) -> bool:
        return self.trust if self.trust_data is None else self.trust_data


AS_NAMED = Own()
"""Data and model are those that the configuration names."""


def open_job(source: Source, own: Own = AS_NAMED) -> Job:
    """A run with its data and its target model. Raises `UserError` if one of them cannot be loaded."""
    run = open_run(source)
    data = load_data(run, own.data, trust=own.data_is_trusted)
    return Job(run, data, build_architecture(run.config, data, own.model, trust=own.trust))


def open_run(source: Source) -> Run:
    """The run in a folder. Raises `UserError` if there is none."""
    return source if isinstance(source, Run) else runs.load(as_path(source, "the run folder"))


def load_data(run: Run, data: Data | None = None, *, trust: bool = False) -> Data:
    """The data set of a run, or `data` if it was trained on tensors. Raises `UserError` if it cannot be loaded."""
    if data is None and run.config.data not in datasets.DATASETS and ":" not in run.config.data:
        raise UserError(f"{run.path} was trained on {run.config.data!r}, your own tensors: give them as data=")
    loaded = named_data(run.config, data, trust=trust)
    if not run.config.skip_broken:
        return loaded
    test, count = reading.readable(loaded.test, skip_broken=True)  # training images are not read again
    return reading.with_left_out(replace(loaded, test=test), count)


def named_data(
    config: Config, data: Data | None = None, *, trust: bool = False, whole: bool = False, channels: int | None = None
) -> Data:
    """The data set that a configuration names, or `data` itself, checked. Images are decoded on demand.

    `trust`: whether the user consents to import the code that `config` names. `whole`: all images are test images.
    `channels`: 1 or 3, if the model asks for them.
    """
    if data is not None:
        return own_data(data)
    how = Preparation(config.resize, config.crop, channels)
    if ":" not in config.data:
        return datasets.opened_data(config.data, config.data_dir, how, whole=whole)
    if not trust:
        raise UserError(
            f"the run folder names code, the data {config.data!r}, which is not imported without your consent: if you "
            "trust that code, add --trust (in Python: trust=True or data=)"
        )
    made = built_by(config.data, imported(config.data, "data"))
    loaded = checked_data(data_from(made, config.data, how), judged=True)
    loaded = reading.prepared_data(loaded, how) if isinstance(made, Data) and not how.is_nothing else loaded
    return joined(loaded) if whole else loaded


def own_data(data: object, *, judged: bool = False) -> Data:
    """A caller's data, checked. Tensors of `torch.inference_mode` are copied, because they do not allow gradients.

    `judged`: the data may have no training images.
    """
    if not isinstance(data, Data):
        raise UserError(f"data is a {type(data).__name__}: expected what grfd.from_tensors or grfd.load returns")
    return checked_data(replace(data, train=_plain(data.train), test=_plain(data.test)), judged=judged)


def _plain(split: Split) -> Split:
    images, labels = (
        each.clone() if isinstance(each, Tensor) and each.is_inference() else each
        for each in (split.images, split.labels)
    )
    return Split(images, labels)


def build_architecture(
    config: Config, data: Data, model: OwnModel | None = None, *, trust: bool = False
) -> Architecture:
    """The constructor of the target model: a registered one, or the user's own.

    `trust`: whether the user consents to import the code that `config` names. Without consent, such code is not
    imported if only a run folder names it, because that folder may come from somebody else. Raises `UserError`.
    """
    if model is not None and not isinstance(model, str):
        return _with_plain_logits(factory(repr(config.model), model), data)
    name = config.model if model is None else model
    if ":" in name and model is None and not trust:
        raise UserError(
            f"the run folder names code, the model {name!r}, which is not imported without your consent: if you trust "
            "that code, add --trust, or name it with --model if the command has that option (in Python: trust=True or "
            "model=)"
        )
    channels, height, width = data.train.images.shape[1:]
    make = architecture(name, channels=channels, classes=len(data.classes), height=height, width=width)
    return _with_plain_logits(make, data) if ":" in name else make


def _with_plain_logits(make: Architecture, data: Data) -> Architecture:
    """A user's architecture, wrapped if its answer is a tuple, a dict or an output of transformers."""
    images = data.train.images if len(data.train) else data.test.images
    with left_as_found():
        network = make()
        wrapped = with_plain_logits(network, as_images(images[:1])) is not network
    return (lambda: LogitsOf(make())) if wrapped else make


def as_path(value: object, name: str) -> Path:
    """A path given by the caller. Raises `UserError` if it is not a path or is empty."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise UserError(f"{name} is {value!r}: expected a path")
    return Path(value)


def as_names(values: object, name: str) -> list[str]:
    """Names given by the caller, in a list, or a single one. Raises `UserError` for values that are not text."""
    several = [values] if isinstance(values, str) else values
    if not isinstance(several, Iterable) or isinstance(several, bytes | Tensor):
        raise UserError(f"{name} is {values!r}: expected a list of names")
    names = list(several)
    for each in names:
        if not isinstance(each, str):
            raise UserError(f"{name} contains {each!r}: expected names")
    return names


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a compressed .npz file, which appears whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    runs.write_bytes(path, buffer.getvalue())
