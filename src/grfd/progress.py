"""Progress with time left, for everything that takes over two seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from grfd import processes

console = Console(highlight=False, quiet=not processes.is_main())
"""For what a command answers."""

side = Console(highlight=False, stderr=True, quiet=not processes.is_main())
"""For progress, so that an answer can be piped on."""

PLAIN_INTERVAL = 15.0
"""Seconds between two lines where the output is no terminal."""

Advance = Callable[[int, str], None]
"""(steps done since the last call, text beside the bar) → None."""


@contextmanager
def progress(title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
    """A bar in a terminal, a line every fifteen seconds elsewhere."""
    yield from _bar(title, total, done) if side.is_terminal else _lines(title, total, done)


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=side, refresh_per_second=4) as bar:
        task = bar.add_task(title, total=total, completed=done, text="")
        yield lambda steps, text: bar.update(task, advance=steps, text=text)


def _lines(title: str, total: int, done: int) -> Iterator[Advance]:
    started = shown = time.monotonic()
    state = {"done": done, "shown": shown}

    def advance(steps: int, text: str) -> None:
        state["done"] += steps
        now = time.monotonic()
        if now - state["shown"] < PLAIN_INTERVAL and state["done"] < total:
            return
        state["shown"] = now
        rate = (state["done"] - done) / max(now - started, 1e-9)
        left = (total - state["done"]) / rate if rate else 0.0
        side.print(f"{title}: {int(state['done'])}/{total}, {_clock(left)} left  {text}".rstrip(), soft_wrap=True)

    yield advance


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
