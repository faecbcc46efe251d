from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from grfd import runs
from grfd.config import Config
from grfd.data.record import Data, from_tensors
from grfd.training import classification
from grfd.training.averaging import Averaged
from grfd.training.classification import Classification, train_under
from grfd.training.job import Job
from grfd.training.loop import Optimisation

DECAY = 0.75


@pytest.fixture
def data() -> Data:
    images = torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = (images.flatten(1).sum(1) > 2).long()
    return from_tensors(images, labels, images, labels)


def build() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_it_is_the_average_of_the_formula() -> None:
    model = build()
    averaged = Averaged(Classification(model), model, DECAY)
    first = model[2].weight.detach().clone()
    expected = first.clone()
    for step in range(1, 4):
        with torch.no_grad():
            model[2].weight.copy_(first + step)
            model[0].running_mean.fill_(step)
        averaged.follow()
        expected = DECAY * expected + (1 - DECAY) * (first + step)
    assert torch.allclose(averaged.average[2].weight, expected)
    assert averaged.average[0].running_mean.item() == 3


def test_the_average_is_not_trained_itself() -> None:
    model = build()
    averaged = Averaged(Classification(model), model, DECAY)
    learnt = {id(each) for each in averaged.parameters() if each.requires_grad}
    assert learnt == {id(each) for each in model.parameters()}


def trained(out: Path, data: Data, averaging: float, epochs: int = 3) -> dict[str, Tensor]:
    run = runs.create(out, Config(batch=16, device="cpu"))
    train_under(Job(run, data, build), "a", Classification, Optimisation(epochs, 0.05), averaging=averaging)
    return runs.read_tensors(run.file("a.safetensors"))


def test_what_is_written_is_the_average_of_all_steps(data: Data, tmp_path: Path) -> None:
    """With a decay that hardly moves, the weights of the start; with one that forgets at once, the last ones."""
    last = trained(tmp_path / "last", data, 0.0)
    start = build_as_seeded(tmp_path / "last")
    assert torch.allclose(trained(tmp_path / "slow", data, 0.999999)["2.weight"], start, atol=1e-4)
    assert not torch.allclose(last["2.weight"], start, atol=1e-2)
    fast = trained(tmp_path / "fast", data, 1e-9)
    assert all(torch.allclose(fast[name], last[name], atol=1e-6) for name in last)


def build_as_seeded(out: Path) -> Tensor:
    with classification.seeded(runs.load(out).config.seed, "a", "weights"):
        return build()[2].weight.detach()


def test_a_stopped_training_ends_with_the_same_average(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", data, DECAY)

    class Stopped(Exception):
        pass

    class Stopping(Classification):
        calls = 0

        def forward(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
            Stopping.calls += 1
            if Stopping.calls == 5:
                raise Stopped
            return super().forward(images, labels, progress)

    run = runs.create(tmp_path / "stopped", Config(batch=16, device="cpu"))
    with pytest.raises(Stopped):
        train_under(Job(run, data, build), "a", Stopping, Optimisation(3, 0.05), averaging=DECAY)
    again = trained(tmp_path / "stopped", data, DECAY)
    assert all(torch.equal(again[name], whole[name]) for name in whole)
