"""The processes of one job, as `accelerate launch` or `torchrun` starts them: one writes, and all wait for each other.

A single process is a job of one: it waits for nobody. What is said to be collective every process has to call.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

Content = TypeVar("Content")

PATIENCE = timedelta(days=1)
"""So long one process waits for the others before it gives up: an attack's batch may take hours."""

_CPU = parse_flag_from_env("ACCELERATE_USE_CPU")
"""Set by `accelerate launch --cpu`."""


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def index() -> int:
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def join() -> None:
    """Meets the other processes: over NCCL where there are accelerators, else over gloo. Collective."""
    if count() > 1:
        PartialState(cpu=_CPU or not torch.accelerator.is_available(), timeout=PATIENCE)


def wait() -> None:
    """Until every process is here. Collective."""
    if count() > 1:
        join()
        PartialState().wait_for_everyone()


def of_main(make: Callable[[], Content]) -> Content:
    """What the main process makes, in every process. Collective."""
    if count() == 1:
        return make()
    join()
    return broadcast_object_list([make() if is_main() else None])[0]


def gathered(mine: list[Any]) -> list[Any]:
    """The lists of all processes, one behind the other. Collective."""
    if count() == 1:
        return mine
    join()
    return gather_object(mine)
