import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from grfd import runs
from grfd.errors import Diverged, UserError
from grfd.tensors import fingerprint_of


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    runs.write_tensors(tmp_path / "w.safetensors", torch.nn.Linear(3, 2).state_dict())
    with pytest.raises(UserError, match=r"expected weight of \(2, 4\), got \(2, 3\)"):
        runs.load_weights(torch.nn.Linear(4, 2), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="it also contains bias"):
        runs.load_weights(torch.nn.Linear(3, 2, bias=False), tmp_path / "w.safetensors")


def test_a_truncated_weight_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    runs.write_tensors(file, torch.nn.Linear(3, 2).state_dict())
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"w\.safetensors is not a complete safetensors file"):
        runs.read_tensors(file)


@pytest.mark.parametrize("content", [b"", b"{}", bytes(8), b"\xff" * 100], ids=["empty", "json", "zeros", "ones"])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors is not a complete safetensors file"):
        runs.read_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_weights_that_are_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="expected a regular file"):
        runs.read_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_never_written(tmp_path: Path, value: float) -> None:
    file = tmp_path / "target.safetensors"
    runs.write_tensors(file, {"weight": torch.ones(2)})
    before = file.read_bytes()
    with pytest.raises(Diverged, match=r"target: bias is not finite .*target\.safetensors is not written"):
        runs.write_tensors(file, {"weight": torch.ones(2), "bias": torch.tensor([0.0, value])})
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_weights_that_are_not_finite_are_never_loaded(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    broken = module.state_dict() | {"bias": torch.tensor([0.0, float("nan")])}
    safetensors.torch.save_file(broken, tmp_path / "w.safetensors")
    before = fingerprint_of(module.state_dict())
    with pytest.raises(UserError, match=r"w\.safetensors: bias holds values that are not finite"):
        runs.load_weights(module, tmp_path / "w.safetensors")
    assert fingerprint_of(module.state_dict()) == before


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    runs.write_tensors(tmp_path / "w.safetensors", {"weight": torch.ones(2, 3, dtype=torch.int8)})
    with pytest.raises(UserError, match=r"weight is torch\.int8; expected torch\.float32"):
        runs.load_weights(nn.Linear(3, 2, bias=False), tmp_path / "w.safetensors")


def test_tied_weights_are_written_and_read(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    runs.write_tensors(tmp_path / "w.safetensors", module.state_dict())
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other[1].weight = other[0].weight
    runs.load_weights(other, tmp_path / "w.safetensors")
    assert runs.fingerprint(other) == runs.fingerprint(module)


def test_a_large_tensor_is_written_part_by_part_as_if_it_were_whole(tmp_path: Path) -> None:
    images, labels = torch.rand(7, 3, 5, 5), torch.arange(7)
    runs.write_tensors(tmp_path / "whole.safetensors", {"images": images, "labels": labels})
    runs.write_large(tmp_path / "parts.safetensors", "images", iter(images.split(3)), images.shape, {"labels": labels})
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_large_tensor_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    parts = iter([torch.rand(2, 3), torch.full((2, 3), torch.nan)])
    with pytest.raises(Diverged, match="images is not finite"):
        runs.write_large(tmp_path / "parts.safetensors", "images", parts, (4, 3), {})
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_tensor_is_written_alone(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    runs.write_tensors(tmp_path / "w.safetensors", {"a": whole[:3], "b": whole[3:6]})
    stored = runs.read_tensors(tmp_path / "w.safetensors")
    assert torch.equal(stored["a"], whole[:3]) and torch.equal(stored["b"], whole[3:6])


@given(position=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 20))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_weights_is_one_line_or_other_values(tmp_path: Path, position: int, value: int, cut: int) -> None:
    module, file = nn.Linear(3, 2), tmp_path / "w.safetensors"
    content = bytearray(safetensors.torch.save(module.state_dict()))
    content[position % len(content)] = value
    file.write_bytes(content[: len(content) - cut])
    before = file.read_bytes()
    try:
        runs.load_weights(module, file)
    except UserError as error:
        assert str(file) in str(error) and "\n" not in str(error)
    else:
        assert cut == 0 and all(each.isfinite().all() for each in module.parameters())
    assert file.read_bytes() == before


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_weights_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError) as caught:
        runs.load_weights(nn.Linear(3, 2), tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "w.safetensors").read_bytes() == content


def test_the_fingerprint_tells_values_shapes_and_names_apart() -> None:
    tensor = torch.arange(6.0)
    different = [{"a": tensor}, {"b": tensor}, {"a": tensor.view(2, 3)}, {"a": tensor + 1}, {"a": tensor.double()}]
    assert len({fingerprint_of(each) for each in different}) == len(different)
    assert fingerprint_of({"a": tensor, "b": tensor}) == fingerprint_of({"b": tensor.clone(), "a": tensor})
