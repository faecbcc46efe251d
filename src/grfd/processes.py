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

from grfd.errors import UserError

Content = TypeVar("Content")

PATIENCE = timedelta(days=1)
"""So long one process waits for the others before it gives up: an attack's batch may take hours."""


def count() -> int:
    return _variable("WORLD_SIZE", 1)


def index() -> int:
    return _variable("RANK", 0)


def _variable(name: str, least: int) -> int:
    """A number from the environment, the least one where it is not set. Raises `UserError` for anything else."""
    value = os.environ.get(name) or str(least)
    if not value.isdecimal() or int(value) < least:
        raise UserError(f"environment variable {name}={value}: expected a whole number of at least {least}")
    return int(value)


def check() -> None:
    """Raises `UserError` where the environment describes no process of a job."""
    if index() >= count():
        raise UserError(f"environment variable RANK={index()}: expected less than WORLD_SIZE, which is {count()}")
    _on_cpu()


def _on_cpu() -> bool:
    """Whether `accelerate launch --cpu` was asked for. Raises `UserError` for what is neither yes nor no."""
    try:
        return bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    except ValueError as error:
        raise UserError(f"environment variable ACCELERATE_USE_CPU: {error}") from error


def is_main() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def join() -> None:
    """Meets the other processes: over NCCL where there are accelerators, else over gloo. Collective.

    Raises `UserError` where the environment does not say how to reach them.
    """
    if count() > 1:
        try:
            PartialState(cpu=_on_cpu() or not torch.accelerator.is_available(), timeout=PATIENCE)
        except (ValueError, KeyError) as error:
            raise UserError(f"cannot join the {count() - 1} other processes of the job: {error}") from error


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
