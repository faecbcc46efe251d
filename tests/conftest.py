"""Small data on which the whole runs in seconds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE_PROBE
from hypothesis import settings

from grfd.config import Config
from grfd.data import Data, Split, load
from grfd.evaluation import checks, records
from grfd.evaluation.probes import PROBES
from grfd.evaluation.records import Record

# Two threads on what is small here are slower than one, and `make test` runs two processes.
torch.set_num_threads(1)

# No test has a time limit, and no hypothesis has one: a busy machine is no fault.
settings.register_profile("grfd", deadline=None)
settings.load_profile("grfd")

SLOW = ("test_cli.py", "test_kill.py", "test_processes.py", "test_defenses.py", "test_variants.py", "test_probes.py")
"""Files of minutes: `make test` begins with them, or one of its processes would be left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in SLOW)


@pytest.fixture(scope="session")
def mnist() -> Data:
    """The embedded MNIST."""
    return load("mnist")


@pytest.fixture(scope="session")
def small(mnist: Data) -> Data:
    """The first 400 training and 60 test images of MNIST."""
    return Data("tensors", mnist.train.take(400), mnist.test.take(60), mnist.classes, "a part of MNIST")


@pytest.fixture
def quick() -> Config:
    """Two epochs of everything on a CPU."""
    return Config(epochs=2, classifier_epochs=2, batch=128, device="cpu", latent=16)


@pytest.fixture
def idx_folder(small: Data, tmp_path: Path) -> Path:
    """`small` in MNIST's official layout."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for prefix, split in (("train", small.train), ("t10k", small.test)):
        write_idx(folder, prefix, split)
    return folder


@pytest.fixture
def record_of() -> Callable[[np.ndarray], Record]:
    """A record of examples that are right or not, all alike otherwise."""

    def make(right: np.ndarray) -> Record:
        count = len(right)
        ones, norm = np.ones(count, dtype=np.int64), np.full(count, 0.1, dtype=np.float32)
        columns = (np.arange(count), ones, ones, right.astype(np.int64), norm, norm)
        return Record(dict(zip(records.COLUMNS, columns, strict=True)), {"attack": {"eps": 0.1}})

    return make


@pytest.fixture
def one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes one masking check only, where something else is tested: all of them take seconds for each model."""
    monkeypatch.setattr(checks, "PROBES", {ONE_PROBE: PROBES[ONE_PROBE]})


@pytest.fixture
def unprivileged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, an empty one, of a user whom permissions bind: root reads everything."""
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)  # its parents may not be open to that user, but the working folder is
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield Path()
    if root:
        os.seteuid(0)


def write_idx(folder: Path, prefix: str, split: Split) -> None:
    sizes = torch.tensor([len(split), 28, 28], dtype=torch.int32)
    header = b"\0\0\x08\x03" + sizes.numpy().astype(">i4").tobytes()
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + split.images.numpy().tobytes())
    header = b"\0\0\x08\x01" + sizes[:1].numpy().astype(">i4").tobytes()
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + split.labels.byte().numpy().tobytes())
