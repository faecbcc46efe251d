"""The entry point of `grfd`. It also handles errors and signals during the import of grfd, which takes seconds.

This module is outside the package, because importing any part of the package imports all of it. It decides what the
user sees when a command ends early: one line and exit code 2 for a mistake, one line and 130 for Ctrl-C, one line and
143 for SIGTERM, which schedulers send. It is not an error if a reader of the output stops reading (`| head`).
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
"""Seconds for a stopped command to clean up. Then the process is ended. Files appear whole or not at all."""
MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "overflow")
"""Parts of PyTorch's messages about full memory. All of them have the type `RuntimeError`."""
PLAIN = {"─": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "…": "...", "–": "-", "−": "-", "×": "x", "÷": "/",
         "→": "->", "≥": ">=", "≤": "<=", "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "eps",
         "μ": "mu", "σ": "sigma"}  # fmt: skip
"""Replacements for characters that the output's encoding does not have. Other characters are written as escapes."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the command. Libraries do not catch it, just as they do not catch Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main() -> None:
    """The `grfd` command."""
    try:
        with _streams(), _signals(_leave):  # an import may catch an exception, so a signal ends the process at once
            _reported(_imported)()
    finally:
        _ignore_signals()


def _imported() -> Callable[[], None]:
    """Imports grfd. Returns its main function."""
    try:
        from grfd import cli
    except Exception as error:
        if _is_mistake(error):
            raise
        raise ImportError(f"grfd cannot be imported: {type(error).__name__}: {error}") from error
    return cli.main


def guarded(action: Callable[[], Any]) -> Any:
    """The result of the action. Its exceptions become one line and an exit code; SIGINT and SIGTERM stop it."""
    with _streams(), _signals(_raise):
        return _reported(action)


def _reported(action: Callable[[], Any]) -> Any:
    try:
        result = _result(action)
        _flushed()
        return result
    except KeyboardInterrupt as stop:
        _ignore_signals()
        _writable()
        _say(STOPPED if _is_main() else "")
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    except Exception as error:
        line = _line(error, _writable())
        if line is None:
            raise
        _say(line and f"grfd: {line}")
        sys.exit(2 if line else 0)


def _result(action: Callable[[], Any]) -> Any:
    """The result of the action; None if it printed its help and ended."""
    try:
        return action()
    except SystemExit as stop:
        if stop.code:
            raise
        return None


def _line(error: Exception, writable: bool) -> str | None:
    """The line that a user sees of an exception: empty if a reader stopped reading, None if it is an error in grfd."""
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
    """Whether it is a `UserError`, which requires that grfd is imported."""
    errors = sys.modules.get("grfd.errors")
    return errors is not None and isinstance(error, errors.UserError)


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in MEMORY)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _one_line(text: str) -> str:
    """The text without line breaks and control characters, which file names may contain."""
    words = " ".join(text.split("\n"))
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in words)


def _say(line: str) -> None:
    """Prints a line to standard error, if it is open."""
    try:
        if line and sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _writable() -> bool:
    """Whether standard output can be written. Otherwise its pending content is discarded."""
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
    """Redirects a stream to the null device. Otherwise Python would report the error again when it exits."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError, AttributeError):
        return


@contextmanager
def _streams() -> Iterator[None]:
    """Makes any character writable in any encoding, and opens closed standard streams on the null device.

    Otherwise the next file that is opened would take the number of the closed stream.
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
    """Handles SIGINT and SIGTERM meanwhile. A signal that was ignored, as under `nohup`, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if earlier[number] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handler)
    try:
        with _impatient():
            yield
    finally:
        for number in handled:
            signal.signal(number, earlier[number] or signal.SIG_DFL)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_main() -> bool:
    """Whether this is the main process of its job (as `grfd.processes.is_main`, which may not be imported yet)."""
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
    """Ends a process that hangs although it was stopped, because it waits for another process, or because a callback
    caught the exception.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    over = threading.Event()
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        numbers = [number for number in os.read(reader, 64) if number in SIGNALS]
        os.close(reader)
        if numbers and not over.wait(PATIENCE):
            _leave(numbers[0])

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(earlier)
        os.close(writer)


if __name__ == "__main__":
    main()
