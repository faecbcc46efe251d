"""Weights that a user gives: safetensors, or a .pt or .pth file of which only tensors are read, never code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grfd.errors import UserError
from grfd.files import is_there, open_regular, reason
from grfd.models.opened import Normalised, bare
from grfd.tensors import not_finite, read_tensors

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_AROUND = ("state_dict", "model_state_dict", "model", "net")
_SHOWN = 3


def given_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name. Raises `UserError` if it is missing or damaged, or holds anything else."""
    if not is_there(path):
        raise UserError(f"{path} is not there: expected a file of weights, safetensors or .pt")
    if path.suffix.lower() not in PICKLED:
        return read_tensors(path)
    with open_regular(path):
        pass  # refuses folders and FIFOs, each with its own message
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise any exception, and code raises UnpicklingError
        raise UserError(
            f"{path} cannot be read as weights alone ({reason(error).splitlines()[0][:200]}): expected a file made by "
            "torch.save(model.state_dict(), …), or safetensors"
        ) from error
    tensors = _inner(held)
    if not tensors or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise UserError(f"{path} holds {_kind(held)}: expected tensors by name, as state_dict() returns them")
    if name := not_finite(tensors):
        raise UserError(f"{path}: {name} holds values that are not finite (NaN or infinite); expected finite ones")
    return dict(tensors)


def _inner(held: Any) -> Mapping[str, Any]:
    """The dictionary of tensors, which may lie inside another dictionary."""
    while isinstance(held, Mapping):
        around = next((name for name in _AROUND if isinstance(held.get(name), Mapping)), None)
        if around is None:
            return held
        held = held[around]
    return {}


def _kind(held: object) -> str:
    return f"{', '.join(map(str, list(held)[:_SHOWN]))}, …" if isinstance(held, Mapping) else type(held).__name__


def fitting_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, without the prefixes "module." and "model." if the network's own names are without them."""
    best = dict(tensors)
    current = best
    for _ in range(3):
        prefix = next((each for each in _PREFIXES if current and all(name.startswith(each) for name in current)), None)
        if prefix is None:
            break
        current = {name.removeprefix(prefix): tensor for name, tensor in current.items()}
        if len(current.keys() & expected.keys()) > len(best.keys() & expected.keys()):
            best = current
    return best


def load_given(network: nn.Module, path: Path, *, fresh_head: bool = False) -> None:
    """Loads weights from a file into a network. Layers that grfd put around it are not expected in the file.

    `fresh_head`: a last layer of another number of classes remains as it is. Raises `UserError`, which names the first
    tensors that do not fit.
    """
    inner = bare(network)
    expected = inner.state_dict()
    tensors = fitting_names(given_weights(path), expected)
    head = network.head if isinstance(network, Normalised) else ""
    if fresh_head and head:
        for name in [name for name in tensors if name.startswith(f"{head}.") and name in expected]:
            if tensors[name].shape != expected[name].shape:
                tensors[name] = expected[name]
    refuse_misfits(expected, tensors, path)
    inner.load_state_dict({name: tensors[name] for name in expected if name in tensors}, strict=False)


def refuse_misfits(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises `UserError` with the first names that are missing, unknown, or of another shape."""
    # files of old versions of PyTorch do not have this counter, which nothing in eval mode reads
    missing = [name for name in expected if name not in tensors and not name.endswith("num_batches_tracked")]
    unknown = [name for name in tensors if name not in expected]
    both = [name for name in expected if name in tensors]
    other = [name for name in both if tensors[name].shape != expected[name].shape]
    problems = []
    if missing:
        problems.append(f"it lacks {_listed(missing)}")
    if unknown:
        problems.append(f"it also contains {_listed(unknown)}")
    if other:
        shapes = [f"{name} {tuple(tensors[name].shape)}, expected {tuple(expected[name].shape)}" for name in other]
        problems.append(f"it has other shapes: {_listed(shapes)}")
    if problems:
        raise UserError(f"{path} fits another network: {'; '.join(problems)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
