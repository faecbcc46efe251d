"""A user's own network. Code that is named as `package.module:factory` is imported here, and nowhere else.

These functions must only be called with names that the user has given. `grfd.api.job.build_architecture` refuses a name
that comes from a run folder alone.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from grfd.errors import UserError

_WORD = r"[^\W\d]\w*"
_IMPORTABLE = re.compile(rf"{_WORD}(\.{_WORD})*:{_WORD}(\.{_WORD})*")
_LONGEST_REASON = 500
"""Number of characters of an exception's message that are repeated in ours."""


def imported(name: str, what: str = "model") -> Callable[..., Any]:
    """Imports what `package.module:attribute` names, also from the current folder. Raises `UserError`.

    `what`: the word for it in a message.
    """
    if not _IMPORTABLE.fullmatch(name):
        kind = "factory" if what in ("model", "data") else "function"
        raise UserError(f"{what} {name!r}: expected package.module:{kind}, names that Python can import")
    module_name, _, attribute = name.partition(":")
    with _current_folder_searched(), own_code_errors_explained(f"{what} {name!r}: the import of {module_name}"):
        target: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise UserError(f"{what} {name!r}: {module_name} has no {attribute}")
        target = getattr(target, part)
    if not callable(target):
        made = f"function or class that makes a {what}" if what in ("model", "data") else "function"
        raise UserError(f"{what} {name!r}: {attribute} is no {made}")
    return target


def built_network(name: str, make: Callable[..., Any], *arguments: Any) -> nn.Module:
    """The network that a user's function returns. Raises `UserError` for any exception, and for another result."""
    with _current_folder_searched(), own_code_errors_explained(name):
        network = make(*arguments)
    if isinstance(network, type):
        raise UserError(
            f"{name} returns the class {network.__name__}: expected a torch.nn.Module, for example {network.__name__}()"
        )
    if not isinstance(network, nn.Module):
        raise UserError(f"{name} returns a {type(network).__name__}: expected a torch.nn.Module")
    return network


def built_by(name: str, make: Callable[..., Any]) -> Any:
    """What a user's function without arguments returns. Raises `UserError` for any exception."""
    with _current_folder_searched(), own_code_errors_explained(name):
        return make()


def factory(name: str, make: object) -> Callable[[], nn.Module]:
    """`make` as an architecture: a function without arguments that returns a network, or raises `UserError`."""
    if isinstance(make, nn.Module):
        kind = type(make).__name__
        raise UserError(f"model {name} is one network ({kind}): expected a function or class that makes a new one")
    if not callable(make):
        raise UserError(f"model is a {type(make).__name__}: expected a function or class that makes a torch.nn.Module")
    return lambda: built_network(f"model {name}", make)


def importable_name(make: object) -> str:
    """The name of a factory in a configuration, as package.module:attribute."""
    while isinstance(make, partial):
        make = make.func
    kind = make if hasattr(make, "__qualname__") else type(make)
    return f"{getattr(kind, '__module__', '?')}:{getattr(kind, '__qualname__', '?')}"


@contextmanager
def _current_folder_searched() -> Iterator[None]:
    """Imports also search the current folder, as they do under `python -m` but not in an installed command."""
    try:
        here = str(Path.cwd())
    except OSError:  # the folder was deleted
        here = ""
    added = bool(here) and here not in sys.path
    if added:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


@contextmanager
def own_code_errors_explained(who: str) -> Iterator[None]:
    """Turns any exception of a user's code, even SystemExit, into a `UserError` of one line; Ctrl-C is left alone."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UserError(f"{who} raised {described(error)}") from error


def described(error: BaseException) -> str:
    """An exception in one line: its type and the beginning of its message."""
    text = " ".join(str(error).split())
    shortened = text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + " …"
    return f"{type(error).__name__}: {shortened}" if shortened else type(error).__name__
