"""Tensors in files: safetensors that are whole, finite and of the network that asks for them; and fingerprints."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from grfd import processes
from grfd.errors import Diverged, UserError
from grfd.files import is_there, open_regular, reason
from grfd.folders import write_bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Writes a safetensors file; shared storage is copied apart. Afterwards every process can read it. Collective.

    Raises `Diverged`, and leaves an older file as it is, where a tensor is not finite.
    """
    if name := not_finite(tensors):
        raise Diverged(
            f"{path.stem}: {name} is not finite (NaN or infinite) after training, so {path} is not written. "
            "A lower learning rate keeps it finite"
        )
    if processes.is_main():
        write_bytes(path, safetensors.torch.save(_apart(tensors), metadata))
    processes.wait()


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with a storage of its own: a network may use one weight under two names."""
    found, storages = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        found[name] = plain
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file. Raises `UserError` where it is not there, not whole, or holds NaN or infinity."""
    if not is_there(path):
        raise UserError(f"{path} is not there: train that stage first")
    with open_regular(path):
        pass  # a folder, a FIFO and a file without permission each have their line
    try:
        tensors = safetensors.torch.load_file(path)
        name = not_finite(tensors)
    except Exception as error:  # for bytes at random, and for dtypes without arithmetic, errors are of many kinds
        raise UserError(f"{path} is no whole safetensors file ({reason(error)})") from error
    if name:
        raise UserError(f"{path}: {name} holds values that are not finite (NaN or infinite); expected finite ones")
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity, if any does."""
    return next((name for name, tensor in tensors.items() if not _is_finite(tensor)), None)


def _is_finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    wide = tensor if tensor.element_size() > 1 else tensor.float()  # for eight bits PyTorch has no such test
    return bool(wide.isfinite().all())


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads a module's weights. Raises `UserError` where the file is of another architecture, or not finite."""
    tensors = read_tensors(path)
    refuse_misfit(module.state_dict(), tensors, path)
    module.load_state_dict(tensors)


def check_weights(module: nn.Module, path: Path) -> None:
    """Raises `UserError` where a file does not hold weights that `load_weights` would load into the module."""
    refuse_misfit(module.state_dict(), read_tensors(path), path)


def refuse_misfit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises `UserError` where a file's tensors are not the expected ones: by name, shape, and kind of number."""
    for name, tensor in expected.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            found = f"{tuple(tensors[name].shape)}" if name in tensors else "nothing"
            raise UserError(f"{path} fits another network: expected {name} of {tuple(tensor.shape)}, found {found}")
        if tensors[name].is_floating_point() != tensor.is_floating_point():
            raise UserError(f"{path}: {name} is {tensors[name].dtype}; expected {tensor.dtype}")
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise UserError(f"{path} fits another network: it also holds {unknown[0]}")


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of a module's parameters and buffers, by name."""
    return fingerprint_of(module.state_dict())


def fingerprint_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def images_of(images: Tensor, labels: Tensor) -> str:
    """The fingerprint of a split's images and labels, which says whether they are the same ones again."""
    return fingerprint_of({"images": images, "labels": labels})
