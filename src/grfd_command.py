"""The entry point of `grfd`: importing grfd takes seconds, and what goes wrong meanwhile is one line, too.

This module stands outside the package, because importing anything of the package imports all of it. It decides what the
user sees where a command ends early: a mistake is one line and exit code 2, Ctrl-C one line and 130, SIGTERM, which
schedulers send, one line and 143. A reader of the output that leaves (`| head`) is no error.
"""

import codecs
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = "grfd: stopped; the same command continues from here"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0
"""Seconds that a stopped command gets to clean up. Ending it then loses nothing: files appear whole or not at all."""
MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "overflow")
"""In messages of PyTorch's about sizes beyond memory; all of them are of type `RuntimeError`."""
PLAIN = {"─": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "…": "...", "–": "-", "−": "-", "×": "x", "÷": "/",
         "→": "->", "≥": ">=", "≤": "<=", "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "eps",
         "μ": "mu", "σ": "sigma"}  # fmt: skip
"""What is written where the output's encoding has no such character; any other one is written as an escape."""


class Stopped(KeyboardInterrupt):
    """A signal that asks the command to end. Libraries let it through, as they do Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main() -> None:
    """The `grfd` command."""
    try:
        with _streams(), _signals(_leave):  # an import may swallow an exception, so a signal ends the process at once
            _reported(_imported)()
    finally:
        _deaf()


def _imported() -> Callable[[], None]:
    """What does the work, once it is imported."""
    try:
        from grfd import cli
    except Exception as error:
        if _is_mistake(error):
            raise
        raise ImportError(f"grfd cannot be imported: {type(error).__name__}: {error}") from error
    return cli.main


def guarded(action: Callable[[], Any]) -> Any:
    """The action's answer, or one line and the exit code of what it raises; SIGINT and SIGTERM stop it."""
    with _streams(), _signals(_raise):
        return _reported(action)


def _reported(action: Callable[[], Any]) -> Any:
    try:
        answer = _answer(action)
        _flushed()
        return answer
    except KeyboardInterrupt as stop:
        _deaf()
        _writable()
        _say(STOPPED if _is_main() else "")
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    except Exception as error:
        line = _line(error, _writable())
        if line is None:
            raise
        _say(line and f"grfd: {line}")
        sys.exit(2 if line else 0)


def _answer(action: Callable[[], Any]) -> Any:
    """The action's answer; None where it printed its help and ended."""
    try:
        return action()
    except SystemExit as stop:
        if stop.code:
            raise
        return None


def _line(error: Exception, writable: bool) -> str | None:
    """What a user reads of an exception; empty where a reader of the output left, None where it is an error of ours."""
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return ""
    if isinstance(error, OSError) and error.filename is None and (not writable or error.errno == errno.ENOSPC):
        return f"cannot write to standard output: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return _one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if isinstance(error, MemoryError | OverflowError) or _is_of_memory(error):
        return _one_line(f"the sizes asked for are too large for this machine: {_first_line(error)}")
    if _is_mistake(error) or isinstance(error, ImportError | UnicodeEncodeError | OSError):
        return _one_line(str(error))
    return None


def _is_mistake(error: Exception) -> bool:
    """Whether it is a `UserError`. Where grfd is not imported, none can be."""
    errors = sys.modules.get("grfd.errors")
    return errors is not None and isinstance(error, errors.UserError)


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MEMORY)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _one_line(text: str) -> str:
    """The same text without line breaks and control characters, which a file's name may hold."""
    words = " ".join(text.split("\n"))
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in words)


def _say(line: str) -> None:
    """To standard error, where anybody listens there."""
    try:
        if line and sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _writable() -> bool:
    """Whether standard output takes what is to be written. What it does not take is discarded."""
    try:
        _flushed()
    except OSError:
        _discard(sys.stdout)
        return False
    return True


def _flushed() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard(stream: Any) -> None:
    """Lets a stream write into nothing, or Python would complain of it again at its end."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError, AttributeError):
        return


@contextmanager
def _streams() -> Iterator[None]:
    """Any character can be written, whatever the encoding. A closed stream is opened on nothing: its number would go
    to the next file that is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error("grfd", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="grfd")
    yield


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    escaped = (PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode("ascii") for each in missing)
    return "".join(escaped), error.end


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """What SIGINT and SIGTERM do meanwhile. One that was ignored, as in a job of `nohup`, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if earlier[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, handler)
    try:
        with _impatient():
            yield
    finally:
        for number in heard:
            signal.signal(number, earlier[number] or signal.SIG_DFL)


def _deaf() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_main() -> bool:
    """Whether this process speaks for its job: `grfd.processes` says it once it is imported."""
    return os.environ.get("RANK", "0") in ("", "0")


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _leave(number: int, frame: FrameType | None = None) -> None:
    """Ends the process at once."""
    if _is_main():
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + number)


@contextmanager
def _impatient() -> Iterator[None]:
    """Ends a process that hangs although it was stopped: in a library's wait for another process, or because a
    callback swallowed the exception.
    """
    listening, heard = os.pipe()
    os.set_blocking(heard, False)
    over = threading.Event()
    earlier = signal.set_wakeup_fd(heard, warn_on_full_buffer=False)

    def watch() -> None:
        numbers = [number for number in os.read(listening, 64) if number in SIGNALS]
        os.close(listening)
        if numbers and not over.wait(PATIENCE):
            _leave(numbers[0])

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(earlier)
        os.close(heard)


if __name__ == "__main__":
    main()
