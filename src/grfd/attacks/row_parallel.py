"""Row-parallel passes on a CPU: a batch in parts of fixed size, each in a thread of its own with one PyTorch thread.

PyTorch divides each operation among the cores and waits for all of them after each. For small networks the waiting
costs more than it gains, and where another process needs a core, every operation waits for it. The rows of a batch are
independent, so each core can do whole parts of it. The size of a part depends on the images alone, and each part is
computed by one thread, so the bits are the same for any number of cores.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from os import getpid
from typing import TypeVar

import torch
from torch import Tensor, nn

from grfd.types import Images, Logits

_Part = TypeVar("_Part")
_Done = TypeVar("_Done")

_SMALLEST_PART, _LARGEST_PART = 8, 128
"""Images in a part. Of larger images a part would hold fewer, and PyTorch's own threads are faster then."""
_NUMBERS_IN_A_PART = 64 * 3 * 32 * 32
"""Pixels times channels, at most: 64 images of CIFAR-10, or one photograph of 224×224 pixels."""

_KNOWN_CODE = ("torch", "grfd")
"""Packages whose layers keep nothing between calls outside of training mode."""

_PROGRAMS = ("torch.jit", "torch.fx", "torch.export")
"""Except for these, whose modules are somebody's program: it may draw, or change its buffers."""


def rows_are_independent(model: object) -> bool:
    """Whether parts of a batch may be computed at the same time: layers of PyTorch and of grfd, without draws or hooks.

    Any other code may keep something between calls or hold a lock, and random draws would come in another order.
    """
    if not isinstance(model, nn.Module) or torch.is_autocast_enabled("cpu"):
        return False
    return all(_keeps_nothing(module) for module in model.modules())


def _keeps_nothing(module: nn.Module) -> bool:
    hooked = any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks))
    code = type(module).__module__
    known = code.partition(".")[0] in _KNOWN_CODE and not code.startswith(_PROGRAMS)
    return known and not module.training and not hooked and not getattr(module, "stochastic", False)


def part_size(images: Images) -> int:
    """The number of images in a part. It does not depend on the machine."""
    return max(1, min(_LARGEST_PART, _NUMBERS_IN_A_PART // max(images[0].numel(), 1)))


def is_worth_parts(images: Images) -> bool:
    """Whether a batch is computed in parts: on a CPU, unless its images are large. The number of cores is no matter."""
    return images.device.type == "cpu" and len(images) > 0 and part_size(images) >= _SMALLEST_PART


def in_threads(work: Callable[[_Part], _Done], parts: Sequence[_Part]) -> list[_Done]:
    """`work` of each part, with one PyTorch thread each, and as many at a time as PyTorch has threads here."""
    workers = torch.get_num_threads()
    if workers == 1:
        return [work(part) for part in parts]
    # each part runs in a copy of the caller's context, which says for example whether passes are counted
    contexts = [copy_context() for _ in parts]
    return list(_pool(workers, getpid()).map(lambda context, part: context.run(work, part), contexts, parts))


@cache
def _pool(workers: int, _process: int) -> ThreadPoolExecutor:
    """Threads of one PyTorch thread each, in this process: a fork does not inherit them."""
    everyone = threading.Barrier(workers + 1)
    pool = ThreadPoolExecutor(workers, "row-parallel", initializer=torch.set_num_threads, initargs=(1,))
    for _ in range(workers):
        pool.submit(everyone.wait)
    everyone.wait()
    # The workers have also changed the number that PyTorch gives to threads that start later.
    torch.set_num_threads(workers)
    return pool


def forward_in_parts(model: Callable[[Images], Logits], images: Images) -> Logits:
    """The logits, without a graph."""

    def forward(part: Images) -> Logits:
        with torch.no_grad():
            return model(part)

    return torch.cat(in_threads(forward, images.split(part_size(images))))


def gradient_in_parts(
    model: Callable[[Images], Logits], images: Images, loss_of: Callable[[Logits], Tensor]
) -> tuple[Images, Logits]:
    """(gradient of the sum of `loss_of(logits)` with respect to the images, logits without a graph).

    The parts run forward at the same time. Then the loss, which may know every example, is differentiated with respect
    to all logits, and the parts run backward at the same time. A part that is cut from its images has gradient 0.
    """
    inputs = [part.detach().requires_grad_() for part in images.split(part_size(images))]

    def forward(part: Images) -> Logits:
        with torch.enable_grad():
            return model(part)

    def backward(work: tuple[Images, Logits, Tensor]) -> Images:
        part, answer, outer = work
        if not answer.requires_grad:
            return torch.zeros_like(part)
        (gradient,) = torch.autograd.grad(answer, part, outer, allow_unused=True)
        return torch.zeros_like(part) if gradient is None else gradient

    answers = in_threads(forward, inputs)
    logits = torch.cat([answer.detach() for answer in answers]).requires_grad_()
    with torch.enable_grad():
        (outer,) = torch.autograd.grad(loss_of(logits).sum() + 0 * logits.sum(), logits)
    sizes = [len(part) for part in inputs]
    parts = list(zip(inputs, answers, outer.split(sizes), strict=True))
    return torch.cat(in_threads(backward, parts)), logits.detach()
