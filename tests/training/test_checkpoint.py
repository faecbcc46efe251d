"""A training never continues from a checkpoint that was edited or that belongs to another training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grfd import runs
from grfd.config import Config
from grfd.errors import UserError
from grfd.training.classification import Classification
from grfd.training.loop import Optimisation, fit_objective

IMAGES = torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.flatten(1).sum(1) > 2).long()
CONFIG = Config(batch=16, device="cpu")
Tensors = dict[str, Tensor]


class Interrupted(Exception):
    pass


def train(run: runs.Run, name: str = "a", epochs: int = 3, stop: int | None = None, rate: float = 0.05) -> None:
    def inputs(epoch: int) -> tuple[Tensor, Tensor]:
        if epoch == stop:
            raise Interrupted
        return IMAGES, LABELS

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    fit_objective(run, name, Classification(model), inputs, Optimisation(epochs, rate))


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    """A training that was stopped in its second epoch."""
    run = runs.create(tmp_path / "run", CONFIG)
    with pytest.raises(Interrupted):
        train(run, stop=1)
    return run


def without_moments(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if not name.startswith("optimizer/")}


def without_a_weight(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if not name.endswith("bias")}


EDITS: dict[str, Callable[[Tensors], Tensors]] = {
    "no moments": without_moments,
    "no bias": without_a_weight,
    "no digest": lambda tensors: {name: value for name, value in tensors.items() if name != "digest"},
    "no epoch": lambda tensors: {name: value for name, value in tensors.items() if name != "epoch"},
    "epoch 99": lambda tensors: tensors | {"epoch": torch.tensor(99)},
    "epoch 2": lambda tensors: tensors | {"epoch": torch.tensor(2)},
    "epoch -1": lambda tensors: tensors | {"epoch": torch.tensor(-1)},
    "two epochs": lambda tensors: tensors | {"epoch": torch.tensor([1, 1])},
    "one more": lambda tensors: tensors | {"weights/extra": torch.zeros(1)},
    "another moment": lambda tensors: tensors | {"optimizer/0/step": tensors["optimizer/0/step"] + 1},
    "double": lambda tensors: {name: value.double() for name, value in tensors.items()},
    "a flat weight": lambda tensors: {name: value.flatten() for name, value in tensors.items()},
    "a little": lambda tensors: {n: v * 1.001 if n.endswith("weight") else v for n, v in tensors.items()},
    "a short digest": lambda tensors: tensors | {"digest": torch.zeros(3)},
    "nothing": lambda tensors: {},
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_checkpoint_is_refused(run: runs.Run, edit: Callable[[Tensors], Tensors]) -> None:
    file = run.file("checkpoints/a.safetensors")
    safetensors.torch.save_file(edit(runs.read_tensors(file)), file)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"a\.safetensors is not what this training has written.*delete it"):
        train(run)
    assert file.read_bytes() == before


def test_a_checkpoint_that_is_not_finite_is_refused(run: runs.Run) -> None:
    file = run.file("checkpoints/a.safetensors")
    tensors = runs.read_tensors(file)
    safetensors.torch.save_file(tensors | {"epoch": torch.tensor(float("nan"))}, file)
    with pytest.raises(UserError, match="epoch holds values that are not finite"):
        train(run)


def test_a_checkpoint_of_another_training_is_refused(run: runs.Run, tmp_path: Path) -> None:
    """Of another stage, of other epochs, of another learning rate, and of a run of another seed."""
    file = run.file("checkpoints/a.safetensors")
    run.file("checkpoints/b.safetensors").write_bytes(file.read_bytes())
    other = runs.create(tmp_path / "other", Config(batch=16, device="cpu", seed=1))
    other.file("checkpoints").mkdir()
    other.file("checkpoints/a.safetensors").write_bytes(file.read_bytes())
    for attempt in (
        lambda: train(run, name="b"),
        lambda: train(run, epochs=4),
        lambda: train(run, rate=0.1),
        lambda: train(other),
    ):
        with pytest.raises(UserError, match="belongs to another stage, other settings or an older version"):
            attempt()


def test_a_network_that_was_changed_meanwhile_is_named(run: runs.Run) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(UserError, match=r"fits another network: expected classifier\.1\.weight of \(3, 4\)"):
        fit_objective(run, "a", Classification(model), lambda epoch: (IMAGES, LABELS), Optimisation(3, 0.05))


def test_a_run_whose_data_has_moved_is_gone_on_with(run: runs.Run) -> None:
    train(runs.Run(run.path, Config(batch=16, device="cpu", data_dir=Path("elsewhere"))))


@given(position=st.integers(0, 10**6), bits=st.integers(1, 255))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_a_checkpoint_can_change(run: runs.Run, position: int, bits: int) -> None:
    file = run.file("checkpoints/a.safetensors")
    right = file.read_bytes()
    wrong = bytearray(right)
    wrong[position % len(right)] ^= bits
    file.write_bytes(wrong)
    with pytest.raises((UserError, Interrupted)) as caught:
        train(run, stop=1)
    same = caught.type is Interrupted  # the changed byte is one of the header's that says nothing, a space or an order
    assert not same or position % len(right) < 8 + int.from_bytes(right[:8], "little")
    assert file.read_bytes() == bytes(wrong)
    file.write_bytes(right)
