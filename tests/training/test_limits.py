from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grfd import runs
from grfd.config import Config
from grfd.data.record import Split
from grfd.errors import Diverged, UserError
from grfd.training.classification import Classification
from grfd.training.limits import batch_sizes, check_memory, check_passes, smallest_pass
from grfd.training.loop import Optimisation, fit_objective

IMAGES = torch.rand(17, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(17) % 2


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))


def inputs(epoch: int) -> tuple[Tensor, Tensor]:
    return IMAGES, LABELS


@given(st.integers(1, 2000), st.integers(1, 2000))
@settings(deadline=None)
def test_batches_hold_every_image_and_none_is_alone(total: int, batch: int) -> None:
    sizes = batch_sizes(total, batch)
    assert sum(sizes) == total
    if total > 1 and batch > 1:
        assert min(sizes) > 1
    if total % batch != 1 or batch == 1:
        assert sizes == [len(each) for each in torch.empty(total, 0).split(batch)]


@pytest.mark.parametrize(
    ("total", "batch", "passes", "expected"),
    [(17, 16, 1, 17), (18, 16, 1, 2), (18, 16, 2, 1), (64, 16, 4, 4), (64, 16, 16, 1), (3, 1, 1, 1), (1, 8, 1, 1)],
)
def test_the_smallest_pass(total: int, batch: int, passes: int, expected: int) -> None:
    assert smallest_pass(total, Config(batch=batch, passes=passes)) == expected


@pytest.mark.parametrize("batch", [2, 4, 8, 16, 32])
def test_batch_norm_is_trained_on_any_number_of_images(tmp_path: Path, batch: int) -> None:
    run = runs.create(tmp_path / "run", Config(batch=batch, device="cpu"))
    fit_objective(run, "a", Classification(normalised()), inputs, Optimisation(1, 0.01))
    assert run.has("checkpoints/a.safetensors")


@pytest.mark.parametrize("config", [Config(batch=1, device="cpu"), Config(batch=4, passes=4, device="cpu")])
def test_passes_of_one_image_are_one_line_for_batch_norm(tmp_path: Path, config: Config) -> None:
    split = Split(IMAGES, LABELS)
    with pytest.raises(UserError, match="batch norm cannot learn from 1 image at once; choose a batch, passes"):
        check_passes(config, split, normalised)
    check_passes(config, split, lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    run = runs.create(tmp_path / "run", config)
    with pytest.raises(UserError, match="a: batch norm cannot learn from 1 image at once"):
        fit_objective(run, "a", Classification(normalised()), inputs, Optimisation(1, 0.01))


def test_another_error_of_a_network_is_not_hidden(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        check_passes(Config(batch=1), Split(IMAGES, LABELS), Odd)


@pytest.mark.parametrize("batch", [4, 32])
def test_a_learning_rate_that_leaves_float32_stops_with_one_line(tmp_path: Path, batch: int) -> None:
    run = runs.create(tmp_path / "run", Config(batch=batch, device="cpu"))
    with pytest.raises(Diverged, match=r"^a: .*A lower learning rate"):
        fit_objective(run, "a", Classification(normalised()), inputs, Optimisation(1, 1e30))
    assert not run.has("checkpoints/a.safetensors")


def test_a_network_beyond_the_memory_is_refused_with_both_numbers() -> None:
    config = Config(device="cpu")
    with pytest.raises(UserError, match=r"big has 100,000,100,000 parameters: .* needs 1,490\.1 GiB .* are available"):
        check_memory("big", lambda: nn.Linear(1_000_000, 100_000), config)
    with pytest.raises(UserError, match=r"^huge cannot be built: [^\n]*$"):
        check_memory("huge", lambda: nn.Linear(2**40, 2**40), config)
    check_memory("small", lambda: nn.Linear(10, 10), config)


def test_too_large_a_batch_is_one_line(tmp_path: Path) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images: Tensor) -> Tensor:
            return self.weight * torch.empty(2**50, len(images))

    run = runs.create(tmp_path / "run", Config(batch=16, device="cpu"))
    with pytest.raises(UserError, match="a: there is not enough memory for 17 images at once; choose a smaller batch"):
        fit_objective(run, "a", Classification(Greedy()), inputs, Optimisation(1, 0.01))
