"""Tensors in files: safetensors that are complete, finite and fit the network that loads them; and fingerprints."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from grfd import processes
from grfd.errors import Diverged, UserError
from grfd.files import is_there, open_regular, reason
from grfd.folders import write_bytes, write_pieces


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Writes a safetensors file. Shared storage is copied. Afterwards every process can read the file. Collective.

    Raises `Diverged` if a tensor is not finite. An older file then stays as it is.
    """
    if name := not_finite(tensors):
        raise Diverged(
            f"{path.stem}: {name} is not finite (NaN or infinite) after training, so {path} is not written. "
            "A lower learning rate keeps it finite"
        )
    if processes.is_main():
        write_bytes(path, safetensors.torch.save(_apart(tensors), metadata))
    processes.wait()


def write_large(
    path: Path, name: str, parts: Iterable[Tensor], shape: Sequence[int], others: Mapping[str, Tensor]
) -> None:
    """Writes what `write_tensors` would, where `name` is a float32 tensor of this shape whose rows come in parts.

    It is never in memory as a whole. `others`: further tensors, which are. Raises `Diverged` if a part is not finite.
    """
    small = _apart(others)
    large = torch.empty(1, dtype=torch.float32).expand(*shape)  # the header only needs its shape
    header: dict[str, Any] = {"__metadata__": {}}  # as `safetensors` writes it
    offset = 0
    for each, tensor in sorted({**small, name: large}.items(), key=lambda item: (-item[1].element_size(), item[0])):
        kind, start, offset = _DTYPE_NAMES[tensor.dtype], offset, offset + tensor.numel() * tensor.element_size()
        header[each] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, offset]}
    opening = json.dumps(header, separators=(",", ":")).encode()
    opening += b" " * (-len(opening) % 8)

    def pieces() -> Iterator[bytes | memoryview]:
        yield len(opening).to_bytes(8, "little") + opening
        for each in list(header)[1:]:
            for part in parts if each == name else [small[each]]:
                if not _is_finite(part):
                    raise Diverged(f"{path.stem}: {each} is not finite (NaN or infinite), so {path} is not written")
                yield part.contiguous().flatten().view(torch.uint8).numpy().data

    write_pieces(path, pieces(), 8 + len(opening) + offset)
    processes.wait()


_DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with its own storage, because a network may use one weight under two names."""
    separate, storages = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != plain.nbytes:
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        separate[name] = plain
    return separate


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file. Raises `UserError` if it is missing or damaged, or contains NaN or infinity."""
    if not is_there(path):
        raise UserError(f"{path} is not there: train that stage first")
    with open_regular(path):
        pass  # refuses folders, FIFOs and files without permission, each with its own message
    try:
        tensors = safetensors.torch.load_file(path)
        name = not_finite(tensors)
    except Exception as error:  # random bytes, and dtypes without arithmetic, raise many kinds of errors
        raise UserError(f"{path} is not a complete safetensors file ({reason(error)})") from error
    if name:
        raise UserError(f"{path}: {name} holds values that are not finite (NaN or infinite); expected finite ones")
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that contains NaN or infinity; None if none does."""
    return next((name for name, tensor in tensors.items() if not _is_finite(tensor)), None)


_AT_ONCE = 2**24
"""Numbers that are tested at once."""


def _is_finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.element_size() == 1:
        tensor = tensor.float()  # PyTorch has no such test for eight bits
    # in pieces, because a file of many images may be larger than the memory
    return all(bool(piece.isfinite().all()) for piece in tensor.flatten().split(_AT_ONCE))


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads a module's weights. Raises `UserError` if the file is of another architecture, or not finite."""
    tensors = read_tensors(path)
    refuse_misfit(module.state_dict(), tensors, path)
    module.load_state_dict(tensors)


def check_weights(module: nn.Module, path: Path) -> None:
    """Raises `UserError` if `load_weights` would refuse the file for this module."""
    refuse_misfit(module.state_dict(), read_tensors(path), path)


def refuse_misfit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises `UserError` if the tensors of a file differ from the expected ones in name, shape or kind of number."""
    for name, tensor in expected.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            actual = f"{tuple(tensors[name].shape)}" if name in tensors else "nothing"
            raise UserError(f"{path} fits another network: expected {name} of {tuple(tensor.shape)}, got {actual}")
        if tensors[name].is_floating_point() != tensor.is_floating_point():
            raise UserError(f"{path}: {name} is {tensors[name].dtype}; expected {tensor.dtype}")
    unknown = sorted(tensors.keys() - expected.keys())
    if unknown:
        raise UserError(f"{path} fits another network: it also contains {unknown[0]}")


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of the parameters and buffers of a module, in the order of their names."""
    return fingerprint_of(module.state_dict())


def fingerprint_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def images_of(images: Tensor, labels: Tensor) -> str:
    """The fingerprint of the images and labels of a split, by which they are recognised later."""
    return fingerprint_of({"images": images, "labels": labels})
