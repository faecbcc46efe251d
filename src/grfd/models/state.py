"""A caller's own networks: their state is restored after use, and a fingerprint of the weights identifies them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from grfd.runs import fingerprint


@contextmanager
def left_as_they_were(*models: nn.Module) -> Iterator[None]:
    """Restores the mode of every submodule, its buffers, and the device and `requires_grad` of every parameter."""
    modules = {module: module.training for model in models for module in model.modules()}
    parameters = {each: (each.device, each.requires_grad) for model in models for each in model.parameters()}
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, training in modules.items():
            module.training = training
        for parameter, (device, needed) in parameters.items():
            if parameter.device != device:
                parameter.data = parameter.data.to(device)
            parameter.requires_grad_(needed)
        for module, name, buffer, before in buffers:
            _restore(module, name, buffer, before)


@torch.no_grad()
def _restore(module: nn.Module, name: str, buffer: Tensor, before: Tensor) -> None:
    """Restores a buffer that the model has overwritten or replaced."""
    if not torch.equal(buffer.cpu(), before.cpu()):
        buffer.copy_(before)
    if dict(module.named_buffers(recurse=False)).get(name) is not buffer:
        setattr(module, name, buffer)


def identity_of(model: nn.Module) -> str:
    """SHA-256 of a model's weights. A model without weights, such as a function, is only identified by its type."""
    held = model.state_dict()
    if held and all(isinstance(each, Tensor) and not each.is_quantized for each in held.values()):
        return fingerprint(model)
    digest = hashlib.sha256(type(model).__qualname__.encode())
    for name, each in sorted(held.items()):
        digest.update(f"{name} ".encode())
        _add(digest, each)
    return digest.hexdigest()


def _add(digest: Any, value: object) -> None:
    """Adds a value to the digest. Quantised layers keep their weights in a tuple, together with numbers."""
    if isinstance(value, tuple | list):
        for part in value:
            _add(digest, part)
    elif isinstance(value, Tensor):
        plain = value.dequantize() if value.is_quantized else value
        digest.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    else:
        digest.update(repr(value).encode())


def is_quantised(model: nn.Module) -> bool:
    """Whether a model has quantised weights. PyTorch computes no gradient through them."""
    return any(_quantised(each) for each in model.state_dict().values())


def _quantised(value: object) -> bool:
    if isinstance(value, tuple | list):
        return any(_quantised(part) for part in value)
    return isinstance(value, Tensor) and value.is_quantized
