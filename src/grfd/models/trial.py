"""Tries one training step on a fresh network, before the run folder is created."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from grfd.errors import UserError
from grfd.models.checks import answer_of
from grfd.models.own import own_code_errors_explained
from grfd.types import Images, Labels


@dataclass(frozen=True, eq=False)
class Trial:
    """A batch for one training step, of `classes` classes. `who`: the network's name in messages."""

    images: Images
    labels: Labels
    classes: int
    who: str
    channels_last: bool = False


def smallest_batch(examples: int, batch: int, parts: int) -> int:
    """The size of the smallest pass of a training, at least 2: the last batch of an epoch divided into `parts`."""
    last = examples % batch or min(batch, examples)
    return min(max(last // max(parts, 1), 2), examples)


def check_answer(model: nn.Module, images: Images, who: str, classes: int) -> None:
    """Raises `UserError` where a network in eval mode does not answer two images with finite logits."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise UserError(
                f"{who}: {name} has no size yet: expected a network that was called once, as lazy layers require"
            )
    with own_code_errors_explained(f"{who}: eval()"):
        same = model.eval()
    if same is not model:
        raise UserError(f"{who}: its train() returns {type(same).__name__}: expected the network itself, `return self`")
    if not answer_of(model, images[:2], who, classes).isfinite().all():
        raise UserError(f"{who} answers with numbers that are not finite before any training")


def check_trainable(first: nn.Module, second: nn.Module, trial: Trial) -> None:
    """Raises `UserError` where a user's network cannot be trained. `first` accumulates gradients: discard it.

    `second`: what the same factory returns when it is called again. `trial`: the smallest batch of the training.
    """
    who, mine = trial.who, {id(tensor) for tensor in first.parameters()}
    if first is second or any(id(tensor) in mine for tensor in second.parameters()):
        raise UserError(f"{who} makes the same weights each time: expected a new network at every call")
    if not any(parameter.requires_grad for parameter in first.parameters()):
        raise UserError(f"{who} has no parameters to train: expected a network with parameters that require gradients")
    for name, tensor in first.state_dict().items():
        if not isinstance(tensor, Tensor) or tensor.is_quantized or tensor.layout != torch.strided:
            raise UserError(f"{who} has {name} in its state, which is not a plain tensor: expected only tensors")
    _try_step(first, trial)


def _try_step(model: nn.Module, trial: Trial) -> None:
    step = f"{trial.who}, in a training step of {len(trial.images)} images,"
    layout = torch.channels_last if trial.channels_last else torch.contiguous_format
    with own_code_errors_explained(step):
        model.to(memory_format=layout)  # type: ignore[call-overload]
        model.train()
        logits = model(trial.images.clone(memory_format=layout))
    _check_logits(logits, (len(trial.images), trial.classes), step)
    with own_code_errors_explained(step):
        nn.functional.cross_entropy(logits.float(), trial.labels).backward()
    norms = [float(each.grad.norm()) for each in model.parameters() if each.grad is not None]
    if not norms:
        raise UserError(f"{step} gives none of its parameters a gradient: expected logits of its parameters")
    if not all(math.isfinite(norm) for norm in norms):
        raise UserError(f"{step} has gradients that are not finite")


def _check_logits(logits: object, shape: tuple[int, int], step: str) -> None:
    if not isinstance(logits, Tensor) or tuple(logits.shape) != shape:
        answer = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{step} answers with {answer}: expected logits of {shape}, as in eval mode")
    if not logits.is_floating_point():
        raise UserError(f"{step} answers with {logits.dtype} numbers: expected floating-point logits")
    if not logits.requires_grad:
        raise UserError(f"{step} answers without a gradient (no_grad or detach?): expected logits of its parameters")
