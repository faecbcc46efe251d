"""Passes sized by counted bytes: exact counts on known layers, and the same results for any pass size."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS
from grfd.attacks.pass_size import bytes_kept, images_in_a_pass, passes_of
from grfd.data.record import Split
from grfd.evaluation.attacker import Counted
from grfd.evaluation.case import Case, budgets_for
from grfd.evaluation.judge import attack_all
from grfd.evaluation.records import read_records
from grfd.evaluation.request import Request
from grfd.models import LeNet5

IMAGES = torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return LeNet5().eval()


def test_the_bytes_are_those_of_the_layers() -> None:
    """ReLU keeps its output (8·4·4 floats), a convolution its input (1·4·4), a linear layer its input (128)."""
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    assert bytes_kept(model, torch.rand(1, 1, 4, 4)) == 4 * (16 + 128)


def test_random_streams_are_left_alone(net: nn.Module) -> None:
    state = torch.get_rng_state()
    noisy = nn.Sequential(nn.Dropout(0.5), net).train()
    assert bytes_kept(noisy, IMAGES[:1]) > bytes_kept(net, IMAGES[:1])
    assert torch.equal(state, torch.get_rng_state())


def test_a_pass_has_at_least_one_image_and_at_most_256(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    assert images_in_a_pass(net, IMAGES[:1]) == 256
    monkeypatch.setattr("grfd.attacks.pass_size.available", lambda device: 10)
    assert images_in_a_pass(net, IMAGES[:1]) == 1


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd_t", "fab_t", "a3", "vmifgsm"])
@pytest.mark.parametrize("parts", [True, False])
def test_attacks_are_the_same_for_any_pass_size(
    net: nn.Module, name: str, parts: bool, request: pytest.FixtureRequest
) -> None:
    labels = net(IMAGES).argmax(1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # parts of a batch then run in threads of their own
    request.addfinalizer(lambda: torch.set_num_threads(before))
    model = Counted(net if parts else nn.Sequential(net, Plain())).eval()
    small = {"pgd": {"step_size": 0.05, "steps": 4}, "a3": {"version": "quick"}, "fgsm": {},
             "vmifgsm": {"step_size": 0.05, "steps": 2}}.get(name, {"steps": 3, "targets": 2})  # fmt: skip
    results, counts = [], []
    for limit in (None, 7, 24):
        model.count = 0
        with passes_of(limit):
            generator = torch.Generator().manual_seed(0)
            results.append(ALL_ATTACKS[name].function(model, IMAGES, labels, eps=0.2, generator=generator, **small))
        counts.append(model.count)
    assert counts[0] == counts[1] == counts[2]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)
    assert torch.equal(results[2], results[0])


class Plain(nn.Module):
    """A layer of the user's own, so that the model is not computed in parts."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits * 1.0


class Small(nn.Module):
    """As an accelerator with room for the graph of five images."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and images.requires_grad and len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.net(images)


def test_a_batch_that_does_not_fit_is_halved_and_repeated(net: nn.Module, tmp_path: Path) -> None:
    labels = net(IMAGES).argmax(1)
    split, request = Split(IMAGES, labels), Request(("whitebox",), ("fgsm", "pgd"), 24)
    budgets = budgets_for(1) | {"pgd": {"eps": 0.1, "step_size": 0.05, "steps": 4}}
    case = Case(tmp_path / "large", {"model": net}, split, budgets, 0, torch.device("cpu"), (), passes={"model": 24})
    attack_all(case, request)
    small = replace(case, folder=tmp_path / "small", models={"model": Small(net).eval()}, passes={"model": 24})
    attack_all(small, request)
    large, halved = (read_records(folder) for folder in (case.folder, small.folder))
    assert large.keys() == halved.keys() and len(large) == 2
    for key, record in large.items():
        for column, values in record.columns.items():
            assert values == pytest.approx(halved[key].columns[column], abs=1e-5), (key, column)


def test_a_pass_keeps_at_most_a_gibibyte_on_a_cpu(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grfd.attacks.pass_size.available", lambda device: 2**40)
    monkeypatch.setattr("grfd.attacks.pass_size.bytes_kept", lambda model, image: 2**27)
    assert images_in_a_pass(net, IMAGES[:1]) == 8
