"""Turns the words of a command line into arguments of a function or fields of a record. Mistakes are one line."""

import difflib
import inspect
import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from grfd import schema
from grfd.commands.config_file import as_tokens, read_settings_file
from grfd.commands.help_text import plain_help
from grfd.errors import UserError

HELP = ("-h", "--help")
REWORDED = {
    r"Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*')": r"\1 must be a whole number, got \2",
    r"Error parsing (\S+): could not convert string to float: ('.*')": r"\1 must be a number, got \2",
    r"Error parsing (\S+): no type matching \{None\}\|INT .* from \[(.*)\]\.": r"\1 must be a whole number, got \2",
    r"Error parsing (\S+): no type matching \{None\}\|FLOAT .* from \[(.*)\]\.": r"\1 must be a number, got \2",
    r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]": r"\1 cannot be read: \2",
}
"""Messages of tyro, reworded like those of our own checks."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r"^[─-]+$")


@dataclass(frozen=True)
class Options:
    """The options of a command, without leading dashes. Flags take no value."""

    names: set[str] = field(default_factory=set)
    flags: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Mode:
    """A way of calling a command in which some options would have no effect. They are refused."""

    title: str
    holds: Callable[[dict[str, Any]], bool]
    """Takes the command's arguments by name. Returns whether it is called in this way."""
    ignored: tuple[str, ...]
    reason: str


def options_of(what: Any) -> Options:
    """The keyword arguments of a function, or the fields of a record. Fields of a nested record follow a dot."""
    options = Options()
    for name, kind in _kinds(what).items():
        option = name.replace("_", "-")
        if is_dataclass(kind):
            inner = options_of(kind)
            options.names.update(f"{option}.{each}" for each in inner.names)
            options.flags.update(f"{option}.{each}" for each in inner.flags)
        else:
            options.names.add(option)
            options.flags.update({option} if kind is bool else ())
    return options


def _kinds(what: Any) -> dict[str, Any]:
    hints = get_type_hints(what, include_extras=True)
    if is_dataclass(what):
        return {each.name: hints[each.name] for each in fields(what)}
    parameters = inspect.signature(what).parameters.values()
    return {each.name: hints[each.name] for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}


def given(options: Options, tokens: list[str], usage: str) -> dict[str, list[str]]:
    """The options that were typed, with their values.

    Raises `UserError` for an unknown option, one without a value or with an empty one, and one that is given twice.
    """
    typed: dict[str, list[str]] = {}
    values: list[str] = []
    last = "an argument"
    for token in tokens:
        if "\0" in token:
            raise UserError(f"{last} contains a null character: expected text")
        if token.startswith("--") and len(token) > 2:
            word, equals, value = token[2:].partition("=")
            name = _known(options, word, usage)
            if name in typed:
                raise UserError(f"--{name} is given twice: expected it once")
            if equals and name in options.flags:
                raise UserError(f"--{name} takes no value, got {value!r}")
            last, values = f"--{name}", [value] if equals else []
            typed[name] = values
        else:
            values.append(token)
        if token.strip() == "" or (token.startswith("--") and token.endswith("=")):
            raise UserError(f"{last} is empty: expected a value")
    for name, words in typed.items():
        if not words and name not in options.flags and name != "help":
            raise UserError(f"--{name} has no value: expected one")
    return typed


def _known(options: Options, word: str, usage: str) -> str:
    """The name of an option. `--no-NAME` sets a flag to false. An underscore counts as a dash."""
    name = word.replace("_", "-")
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
    raise UserError(f"unknown option --{word}{meant}: {usage} lists the options")


def check_modes(modes: tuple[Mode, ...], arguments: dict[str, Any], typed: dict[str, list[str]]) -> None:
    """Raises `UserError` for an option that would have no effect."""
    for mode in modes:
        if mode.holds(arguments):
            for name in typed:
                if name.replace("-", "_") in mode.ignored:
                    raise UserError(f"--{name} does not apply to {mode.title}: {mode.reason}")


def call_of(
    function: Callable[..., None], program: str, tokens: list[str], modes: tuple[Mode, ...]
) -> Callable[[], None]:
    """The function call that the command line stands for, ready to be made. Options in `--config` count as typed.

    Raises `UserError` for mistakes.
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
    """The words for the options that a file sets, by option. Raises `UserError`, which begins with the file's name."""
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
    """Raises `UserError` for a value out of its range, and for a value that occurs twice in a list."""
    for name, kind in _kinds(function).items():
        option, value = f"--{name.replace('_', '-')}", arguments[name]
        schema.value(option, kind, value)
        if isinstance(value, tuple):
            twice = [each for index, each in enumerate(value) if each in value[:index]]
            if twice:
                raise UserError(f"{option}: {twice[0]} is named twice")


def parsed(what: Any, program: str, tokens: list[str], **keywords: Any) -> Any:
    """The result of tyro. Its message about a mistake, a box of many lines, becomes the one line of a `UserError`."""
    written, answered = io.StringIO(), io.StringIO()
    try:
        with redirect_stderr(written), redirect_stdout(answered):
            return tyro.cli(what, prog=program, args=tokens, **keywords)
    except SystemExit as stop:
        if not stop.code:
            print(plain_help(answered.getvalue()), end="")
            raise
        lines = [_RULE.sub("", line.strip("│|╭╮╰╯ ")) for line in _COLOUR.sub("", written.getvalue()).splitlines()]
        words = " ".join(_message(lines)) or lines[0]
        raise UserError(f"{_reworded(words)} (see {program} --help)") from None


def _message(lines: list[str]) -> list[str]:
    """The lines between the title and the next rule. Rules are empty lines here."""
    below = list(dropwhile(lambda line: not line, lines[1:]))
    return list(takewhile(bool, below))


def _reworded(words: str) -> str:
    for pattern, ours in REWORDED.items():
        words = re.sub(pattern, ours, words)
    return words


def _number_or_fraction(words: list[str]) -> float:
    """0.03, or 8/255, as the field writes ε. Raises ValueError for anything else, as tyro expects it."""
    (word,) = words
    above, slash, below = word.partition("/")
    try:
        return float(above) / float(below) if slash else float(word)
    except ZeroDivisionError as error:
        raise ValueError(word) from error


Epsilon = Annotated[
    schema.Radius,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=_number_or_fraction,
        is_instance=lambda value: isinstance(value, int | float),
        str_from_instance=lambda value: [f"{value:g}"],
    ),
]
"""ε of an attack on the command line: a number or a fraction."""
