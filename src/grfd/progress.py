"""What a command prints: its answer to standard output, and progress with time left to standard error."""

import atexit
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from grfd import processes

WHOLE = 100_000
"""Columns where the output is no terminal: nothing is wrapped or cut, because a program may read it."""


class Output(Console):
    """A console that prints text as it is: square brackets in a path are no markup, and `:cat:` is no emoji.

    Styles are given as `Text`. Of several processes of one job the main one prints. Where nobody reads any more
    (`| head`), it falls silent, and the work goes on.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        self.silent = False
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **options)

    @property
    def size(self) -> ConsoleDimensions:
        return super().size if self.is_terminal and self.file.isatty() else ConsoleDimensions(WHOLE, 25)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        Console.size.fset(self, new_size)  # type: ignore[attr-defined]

    def print(self, *objects: Any, **options: Any) -> None:
        if self.silent or not processes.is_main():
            return
        options.setdefault("soft_wrap", all(isinstance(each, str | Text) for each in objects))
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        self.silent = True


console = Output()
"""For what a command answers."""

side = Output(stderr=True)
"""For progress, so that an answer can be piped on."""

PLAIN_INTERVAL = 15.0
"""Seconds between two lines where the output is no terminal."""

Advance = Callable[[int, str], None]
"""(steps done since the last call, text beside the bar) → None."""


def titled(title: str, text: str) -> Text:
    """A line that begins with a word in bold."""
    return Text.assemble((title, "bold"), text)


@contextmanager
def answer_alone(wanted: bool) -> Iterator[None]:
    """Where it is wanted, all that is printed meanwhile goes to standard error, so that the answer is JSON alone.

    A model of the user's may print when it is imported, made or called, and at the end of the process. The file
    descriptor is redirected too, for programs that the model starts.
    """
    if not wanted:
        yield
        return
    with redirect_stdout(sys.stderr), _descriptor_redirected():
        yield
    # registered after whatever the model registered, so called before it
    atexit.register(lambda: setattr(sys, "stdout", sys.stderr))


@contextmanager
def _descriptor_redirected() -> Iterator[None]:
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def print_json(content: Any) -> None:
    """Valid JSON in any encoding. Of several processes of one job the main one prints."""
    if processes.is_main():
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(json.dumps(content, indent=2, ensure_ascii=not encoding.lower().startswith("utf")))


@contextmanager
def progress(title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
    """A bar in a terminal, a line every fifteen seconds elsewhere."""
    yield from _bar(title, total, done) if side.is_terminal else _lines(title, total, done)


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=side, refresh_per_second=4, disable=not processes.is_main()) as bar:
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
