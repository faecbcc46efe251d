"""The checkpoint of a training: weights and the moments of AdamW. Only the training that wrote it can resume it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from grfd.errors import UserError
from grfd.runs import read_tensors, write_tensors
from grfd.tensors import fingerprint_of, refuse_misfit

_DIGEST = "digest"


def save_checkpoint(file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, training: str) -> None:
    """Writes weights and moments after `epoch` epochs. `training`: a text that identifies the training.

    Raises `Diverged` where a value is not finite; the last checkpoint is kept.
    """
    tensors = {f"weights/{name}": value for name, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
    tensors["epoch"] = torch.tensor(epoch)
    write_tensors(file, tensors | {_DIGEST: _digest(tensors, training)})


def restore_checkpoint(
    file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, training: str
) -> int:
    """Loads weights and moments. Returns the number of finished epochs.

    Raises `UserError` for a checkpoint that was changed after it was written, or that another training wrote: a
    training that resumed from it would not end with the weights of an uninterrupted one.
    """
    tensors = read_tensors(file)
    digest = tensors.pop(_DIGEST, None)
    if digest is None or not torch.equal(digest, _digest(tensors, training)):
        raise UserError(
            f"{file} is not what this training has written: it was changed, or it belongs to another stage, other "
            "settings or an older version; delete it, and this stage starts from its first epoch"
        )
    weights = {name.removeprefix("weights/"): value for name, value in tensors.items() if name.startswith("weights/")}
    refuse_misfit(module.state_dict(), weights, file)
    state = _optimizer_state(tensors, optimizer, file)
    module.load_state_dict(weights)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    epoch = int(tensors["epoch"])
    if not 0 < epoch <= epochs:
        raise UserError(f"{file} is of epoch {epoch}; expected 1 to {epochs}")
    return epoch


def _digest(tensors: Mapping[str, Tensor], training: str) -> Tensor:
    """SHA-256 of the tensors and of the text that identifies the training, as a tensor for the same file."""
    digest = hashlib.sha256(f"{training} {fingerprint_of(tensors)}".encode()).digest()
    return torch.tensor(list(digest), dtype=torch.uint8)


def _optimizer_state(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, file: Path
) -> dict[int, dict[str, Tensor]]:
    """The state of AdamW by the index of the parameter. The code of the network may have changed since."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            if int(index) >= len(parameters) or value.shape not in ((), parameters[int(index)].shape):
                raise UserError(f"{file} belongs to another network: {key} has shape {tuple(value.shape)}")
            state.setdefault(int(index), {})[name] = value
    return state
