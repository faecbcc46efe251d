"""The processes of one job, as `accelerate launch` or `torchrun` starts them: one writes, and all wait for each other.

A single process is a job of one and waits for nobody. Every process of a job must call each collective function.
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
"""How long a process waits for the others before it gives up. A batch of an attack may take hours."""


def count() -> int:
    """The number of processes in the job."""
    return _variable("WORLD_SIZE", 1)


def index() -> int:
    """The index of this process in the job, from 0."""
    return _variable("RANK", 0)


def _variable(name: str, least: int) -> int:
    """A whole number from the environment, or `least` if it is not set. Raises `UserError` for anything else."""
    value = os.environ.get(name) or str(least)
    if not value.isdecimal() or int(value) < least:
        raise UserError(f"environment variable {name}={value}: expected a whole number of at least {least}")
    return int(value)


def check_launch() -> None:
    """Raises `UserError` if the environment does not describe a process of a job."""
    if index() >= count():
        raise UserError(f"environment variable RANK={index()}: expected less than WORLD_SIZE, which is {count()}")
    _on_cpu()


def _on_cpu() -> bool:
    """Whether the job was started with `accelerate launch --cpu`. Raises `UserError` if it is neither yes nor no."""
    try:
        return bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
    except ValueError as error:
        raise UserError(f"environment variable ACCELERATE_USE_CPU: {error}") from error


def is_main() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def join() -> None:
    """Connects to the other processes, by NCCL if there are accelerators and by gloo otherwise. Collective.

    Raises `UserError` if the environment does not say how to reach them.
    """
    if count() > 1:
        try:
            PartialState(cpu=_on_cpu() or not torch.accelerator.is_available(), timeout=PATIENCE)
        except (ValueError, KeyError) as error:
            raise UserError(f"cannot join the {count() - 1} other processes of the job: {error}") from error


def wait() -> None:
    """Waits until every process has called this. Collective."""
    if count() > 1:
        join()
        PartialState().wait_for_everyone()


def of_main(make: Callable[[], Content]) -> Content:
    """The result of `make` in the main process, which all processes receive. Collective."""
    if count() == 1:
        return make()
    join()
    return broadcast_object_list([make() if is_main() else None])[0]


def gathered(mine: list[Any]) -> list[Any]:
    """The lists of all processes, concatenated. Collective."""
    if count() == 1:
        return mine
    join()
    return gather_object(mine)
