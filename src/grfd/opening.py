"""What a command begins with: a run folder, its data set, its architecture."""

import io
from pathlib import Path

import numpy as np

from grfd import data as datasets
from grfd import runs
from grfd.config import Config
from grfd.data.record import Data, checked
from grfd.errors import UserError
from grfd.models import Architecture, architecture
from grfd.runs import Run

Source = Path | str | Run


def open_run(source: Source) -> Run:
    return source if isinstance(source, Run) else runs.load(Path(source))


def load_data(run: Run, data: Data | None = None) -> Data:
    """The run's data set; `data` where it was trained on tensors. Raises `UserError` where it cannot be had."""
    if data is None and run.config.data not in datasets.DATASETS:
        raise UserError(f"{run.path} was trained on {run.config.data!r}, tensors of your own: give them as data=")
    return named_data(run.config, data)


def named_data(config: Config, data: Data | None = None) -> Data:
    """The data set that a configuration names, or `data` itself, checked."""
    return datasets.load(config.data, config.data_dir) if data is None else checked(data)


def build_architecture(config: Config, data: Data, model: Architecture | None = None) -> Architecture:
    """The target's constructor: the registered one, or the user's own."""
    if model is not None:
        return model
    channels, height, width = data.train.images.shape[1:]
    return architecture(config.model, channels=channels, classes=len(data.classes), height=height, width=width)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    runs.write_bytes(path, buffer.getvalue())
