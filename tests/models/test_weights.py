"""Weights of other people's files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from grfd.errors import UserError
from grfd.models.opened import Normalised
from grfd.models.weights import load_given


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize("around", [(), ("state_dict",), ("model_state_dict", "state_dict")])
def test_prefixes_and_what_is_around_are_removed(tmp_path: Path, prefix: str, around: tuple[str, ...]) -> None:
    first, second = network(), network()
    held: object = {prefix + name: each for name, each in first.state_dict().items()}
    for name in around:
        held = {name: held, "epoch": 3}
    torch.save(held, tmp_path / "w.pth")
    load_given(second, tmp_path / "w.pth")
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))


def test_a_network_whose_names_begin_with_model_keeps_them(tmp_path: Path) -> None:
    held = nn.ModuleDict({"model": nn.Linear(2, 2)})
    save_file(held.state_dict(), tmp_path / "w.safetensors")
    load_given(nn.ModuleDict({"model": nn.Linear(2, 2)}), tmp_path / "w.safetensors")


def test_the_first_names_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    save_file({"0.weight": torch.zeros(4, 3, 5, 5), "head": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError) as caught:
        load_given(network(), tmp_path / "w.safetensors")
    assert "it lacks 0.bias, 1.weight, 1.bias and 4 more; it also contains head; it has other shapes: 0.weight" in str(
        caught.value
    )


def test_a_head_for_other_classes_stays_fresh_only_in_training(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(5, 3), "fc.bias": torch.zeros(5)}, tmp_path / "w.safetensors")
    inner = nn.Module()
    inner.fc = nn.Linear(3, 2)
    wrapped = Normalised(inner, [0.5] * 3, [0.5] * 3, "fc")
    load_given(wrapped, tmp_path / "w.safetensors", fresh_head=True)
    assert bool(inner.fc.weight.any())
    with pytest.raises(UserError, match=r"other shapes: fc.weight \(5, 3\), expected \(2, 3\)"):
        load_given(wrapped, tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [3, {"epoch": 3}, {}, {"state_dict": {"a": "text"}}])
def test_a_file_without_tensors_is_one_line(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="expected tensors by name"):
        load_given(network(), tmp_path / "w.pt")
