"""Output of the commands: the answer to standard output, and progress with the remaining time to standard error."""

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
"""Width in columns if the output is not a terminal. Nothing is wrapped or cut, because a program may read it."""


class Output(Console):
    """A console that prints text unchanged: square brackets in a path are not markup, and `:cat:` is not an emoji.

    Styles are given as `Text`. Only the main process of a job prints. If the reader stops reading (`| head`), nothing
    more is printed, and the work continues.
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
"""Prints the answer of a command."""

side = Output(stderr=True)
"""Prints progress, so that the answer alone can be piped."""

PLAIN_INTERVAL = 15.0
"""Seconds between two lines of progress if the output is not a terminal."""

Advance = Callable[[int, str], None]
"""(steps done since the last call, text beside the bar) → None."""


def titled(title: str, text: str) -> Text:
    """A line that begins with a word in bold."""
    return Text.assemble((title, "bold"), text)


@contextmanager
def answer_alone(wanted: bool) -> Iterator[None]:
    """If `wanted`, everything that is printed meanwhile goes to standard error, so that the answer is only JSON.

    A user's model may print when it is imported, built or called, and at the end of the process. The file descriptor
    is redirected as well, for programs that the model starts.
    """
    if not wanted:
        yield
        return
    with redirect_stdout(sys.stderr), _descriptor_redirected():
        yield
    # registered after the functions of the model, and therefore called before them
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
    """Prints JSON, valid in any encoding. Only the main process of a job prints."""
    if processes.is_main():
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(json.dumps(content, indent=2, ensure_ascii=not encoding.lower().startswith("utf")))


@contextmanager
def progress(title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
    """Shows a bar in a terminal, and otherwise prints a line every fifteen seconds."""
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
    started = time.monotonic()
    state = {"done": done, "printed": started}

    def advance(steps: int, text: str) -> None:
        state["done"] += steps
        now = time.monotonic()
        if now - state["printed"] < PLAIN_INTERVAL and state["done"] < total:
            return
        state["printed"] = now
        rate = (state["done"] - done) / max(now - started, 1e-9)
        left = (total - state["done"]) / rate if rate else 0.0
        side.print(f"{title}: {int(state['done'])}/{total}, {_clock(left)} left  {text}".rstrip(), soft_wrap=True)

    yield advance


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
