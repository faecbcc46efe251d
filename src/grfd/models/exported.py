"""Exported programs: `FILE.pt2` of torch.export, and TorchScript, `FILE.pt`. They can be judged but not trained."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grfd.errors import UserError
from grfd.files import open_regular
from grfd.models.opened import logits_in
from grfd.models.own import described
from grfd.types import Images

EXPORTED = ".pt2"
SCRIPTED = (".pt", ".pth", ".ts")


class Exported(nn.Module):
    """A program of torch.export. It has no modes: it stays as it was exported.

    `batch`: the number of images that it takes, or None for any number. Other numbers are split, and filled up.
    """

    def __init__(self, program: nn.Module, batch: int | None) -> None:
        super().__init__()
        self.program = program
        self.batch = batch

    def train(self, mode: bool = True) -> "Exported":
        self.training = mode
        return self

    def forward(self, images: Images) -> Any:
        if self.batch is None or len(images) == self.batch:
            return self.program(images)
        answers = [self._filled(part) for part in images.split(self.batch)]
        return torch.cat(answers)

    def _filled(self, images: Images) -> Tensor:
        missing = self.batch - len(images) if self.batch is not None else 0
        full = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
        answer: Any = logits_in(self.program(full))
        return answer[: len(images)]


def is_exported(name: str) -> bool:
    """Whether the name of a model is that of a file with a program."""
    return ":" not in name and name.endswith((EXPORTED, *SCRIPTED))


def open_exported(name: str) -> nn.Module:
    """The program in a file. Raises `UserError` if it is missing, damaged, or holds weights alone."""
    path = Path(name)
    with open_regular(path):
        pass  # refuses folders and FIFOs, each with its own message
    return _torch_export(path) if path.suffix == EXPORTED else _torchscript(path)


def _torch_export(path: Path) -> nn.Module:
    try:
        program = torch.export.load(path)
        network = program.module()
    except Exception as error:  # damaged archives raise any exception
        raise UserError(f"{path} cannot be read as a program of torch.export: {described(error)}") from error
    return Exported(network, _fixed_batch(program))


def _fixed_batch(program: Any) -> int | None:
    """The number of images for which a program was exported, unless its batch dimension is dynamic."""
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in names and isinstance(value, Tensor) and value.ndim == 4:
            return value.shape[0] if isinstance(value.shape[0], int) else None
    return None


def _torchscript(path: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch prefers torch.export, but files stay
            network: nn.Module = torch.jit.load(path, map_location="cpu")
    except Exception as error:  # weights alone, or a damaged archive
        raise UserError(
            f"{path} holds no TorchScript program ({described(error)[:200]}): weights alone are given as --weights, "
            "with the network as --model package.module:factory"
        ) from error
    return network
