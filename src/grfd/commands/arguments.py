"""What was typed becomes the arguments of a function or a record, or one line about what is wrong with it."""

import difflib
import inspect
import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from grfd import schema
from grfd.commands.config_file import as_tokens, read_settings_file
from grfd.errors import UserError

HELP = ("-h", "--help")
REWORDED = {
    r"Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*')": r"\1 must be a whole number, got \2",
    r"Error parsing (\S+): could not convert string to float: ('.*')": r"\1 must be a number, got \2",
    r"Error parsing (\S+): no type matching \{None\}\|INT .* from \[(.*)\]\.": r"\1 must be a whole number, got \2",
    r"Error parsing (\S+): no type matching \{None\}\|FLOAT .* from \[(.*)\]\.": r"\1 must be a number, got \2",
    r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]": r"\1 cannot be read: \2",
}
"""What tyro says, in the words of our own checks."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r"^[─-]+$")


@dataclass(frozen=True)
class Options:
    """The options of a command, without the dashes in front. Flags take no value."""

    names: set[str] = field(default_factory=set)
    flags: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Mode:
    """A way to call a command in which some of its options would do nothing: they are refused there."""

    title: str
    holds: Callable[[dict[str, Any]], bool]
    """(the command's arguments by name) → whether it is called in this way."""
    ignored: tuple[str, ...]
    reason: str


def options_of(what: Any) -> Options:
    """Of a function, its keyword arguments; of a record, its fields, those of a record in it behind a dot."""
    found = Options()
    for name, kind in _kinds(what).items():
        shown = name.replace("_", "-")
        if is_dataclass(kind):
            inner = options_of(kind)
            found.names.update(f"{shown}.{each}" for each in inner.names)
            found.flags.update(f"{shown}.{each}" for each in inner.flags)
        else:
            found.names.add(shown)
            found.flags.update({shown} if kind is bool else ())
    return found


def _kinds(what: Any) -> dict[str, Any]:
    hints = get_type_hints(what, include_extras=True)
    if is_dataclass(what):
        return {each.name: hints[each.name] for each in fields(what)}
    parameters = inspect.signature(what).parameters.values()
    return {each.name: hints[each.name] for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}


def given(options: Options, tokens: list[str], usage: str) -> dict[str, list[str]]:
    """The options that were typed, with their values. Raises `UserError` for what cannot be meant.

    That is an unknown option, one without a value or with an empty one, and one that is given twice.
    """
    found: dict[str, list[str]] = {}
    values: list[str] = []
    last = "an argument"
    for token in tokens:
        if "\0" in token:
            raise UserError(f"{last} holds a null character: expected text")
        if token.startswith("--") and len(token) > 2:
            typed, equals, value = token[2:].partition("=")
            name = _known(options, typed, usage)
            if name in found:
                raise UserError(f"--{name} is given twice: expected it once")
            if equals and name in options.flags:
                raise UserError(f"--{name} takes no value, got {value!r}")
            last, values = f"--{name}", [value] if equals else []
            found[name] = values
        else:
            values.append(token)
        if token.strip() == "" or (token.startswith("--") and token.endswith("=")):
            raise UserError(f"{last} is empty: expected a value")
    for name, listed in found.items():
        if not listed and name not in options.flags and name != "help":
            raise UserError(f"--{name} has no value: expected one")
    return found


def _known(options: Options, typed: str, usage: str) -> str:
    """The option's name. `--no-NAME` is a flag's other side; an underscore stands for a dash."""
    name = typed.replace("_", "-")
    positive = name.removeprefix("no-")
    prefix, dot, last = name.rpartition(".")
    if dot and last.startswith("no-"):
        positive = f"{prefix}.{last.removeprefix('no-')}"
    if name in options.names or name == "help":
        return name
    if positive in options.flags:
        return positive
    close = difflib.get_close_matches(name, options.names, 1)
    meant = f" (did you mean --{close[0]}?)" if close else ""
    raise UserError(f"unknown option --{typed}{meant}: {usage} lists the options")


def check_modes(modes: tuple[Mode, ...], arguments: dict[str, Any], typed: dict[str, list[str]]) -> None:
    """Raises `UserError` for an option that would do nothing."""
    for mode in modes:
        if mode.holds(arguments):
            for name in typed:
                if name.replace("-", "_") in mode.ignored:
                    raise UserError(f"--{name} does not apply to {mode.title}: {mode.reason}")


def call_of(
    function: Callable[..., None], program: str, tokens: list[str], modes: tuple[Mode, ...]
) -> Callable[[], None]:
    """The call that was typed, to be made later. Options that `--config` sets count as typed.

    Raises `UserError` where it cannot be made.
    """
    typed = given(options_of(function), tokens, f"{program} --help")
    if "config" in typed and "config" in _kinds(function):
        stored = _from_file(function, program, Path(typed["config"][0]))
        added = {name: words for name, words in stored.items() if name not in typed}
        tokens = [*tokens, *(word for words in added.values() for word in words)]
        typed |= added
    call = _bound(function, program, tokens)
    check_modes(modes, call.arguments, typed)
    return lambda: function(*call.args, **call.kwargs)


def _from_file(function: Callable[..., None], program: str, file: Path) -> dict[str, list[str]]:
    """What would be typed for the options that a file sets. Raises `UserError`, beginning with the file's name."""
    options = options_of(function)
    stored = as_tokens(read_settings_file(file), options.names, file)
    tokens = [word for words in stored.values() for word in words]
    try:
        given(options, tokens, f"{program} --help")
        _bound(function, program, tokens)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return stored


def _bound(function: Callable[..., None], program: str, tokens: list[str]) -> inspect.BoundArguments:
    """The function's arguments as tyro reads them, checked."""

    @wraps(function)
    def bound(*arguments: Any, **keywords: Any) -> inspect.BoundArguments:
        return inspect.signature(function).bind(*arguments, **keywords)

    call: inspect.BoundArguments = parsed(bound, program, tokens)
    call.apply_defaults()
    _check_values(function, call.arguments)
    return call


def _check_values(function: Callable[..., None], arguments: dict[str, Any]) -> None:
    """Raises `UserError` for a value out of its range, and for one that is named twice in a list of them."""
    for name, kind in _kinds(function).items():
        shown, value = f"--{name.replace('_', '-')}", arguments[name]
        schema.value(shown, kind, value)
        if isinstance(value, tuple):
            twice = [each for index, each in enumerate(value) if each in value[:index]]
            if twice:
                raise UserError(f"{shown}: {twice[0]} is named twice")


def parsed(what: Any, program: str, tokens: list[str], **keywords: Any) -> Any:
    """tyro's answer. What it says of a mistake, in a box of many lines, becomes the one line of a `UserError`."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(what, prog=program, args=tokens, **keywords)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [_RULE.sub("", line.strip("│|╭╮╰╯ ")) for line in _COLOUR.sub("", said.getvalue()).splitlines()]
        words = " ".join(_message(lines)) or lines[0]
        raise UserError(f"{_reworded(words)} (see {program} --help)") from None


def _message(lines: list[str]) -> list[str]:
    """What stands between the title and the next rule, which is an empty line here, as a rule below the title is."""
    below = list(dropwhile(lambda line: not line, lines[1:]))
    return list(takewhile(bool, below))


def _reworded(words: str) -> str:
    for pattern, ours in REWORDED.items():
        words = re.sub(pattern, ours, words)
    return words
