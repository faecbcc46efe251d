"""The `grfd` command: what was typed becomes a call of a command, or one line and exit code 2."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import make_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

import tyro

from grfd import runs
from grfd.commands import COMMANDS, TRAINING, Training, fit
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES
from grfd.errors import UserError
from grfd.progress import console

FIT = "Fit one of the rival defenses in a run folder, beside the standard models that it is judged with."


def _training(command: str, options: list[str]) -> Callable[[], None]:
    """Presets are defaults of one and the same record, so every field can be changed on top of any."""
    what, action = TRAINING[command]
    usage = f"grfd {command} PRESET --out RUN [--FIELD VALUE …]"
    if not options or options[0] in ("-h", "--help"):
        console.print(f"{what}\n\nusage: {usage}\npresets: {', '.join(PRESETS)}\n", markup=False)
        options = ["quick", "--help"]
    name, *changes = options
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)} ({usage})")
    default = Training(**vars(PRESETS[name]), out=tyro.MISSING)
    settings = _parsed(Training, f"grfd {command} {name}", changes, description=what, default=default)
    return partial(action, settings)


def _fit(options: list[str]) -> Callable[[], None]:
    """Settings default to those of the run folder, where it is there: a defense joins the models of that run.

    A preset that is named goes before; a folder of other settings then refuses it.
    """
    usage = "grfd fit DEFENSE [PRESET] --out RUN [--recipe.FIELD VALUE …] [--FIELD VALUE …]"
    if not options or options[0] in ("-h", "--help"):
        listed = "\n".join(f"  {name:<25}{_first_line(module)}" for name, module in DEFENSES.items())
        presets = f"presets: {', '.join(PRESETS)}"
        told = f"{FIT}\n\nusage: {usage}\n{presets}\n\n{listed}\n\ngrfd fit DEFENSE --help: its recipe."
        console.print(told, markup=False)
        return lambda: None
    name, *changes = options
    if name not in DEFENSES:
        raise UserError(f"unknown defense {name!r}: expected one of {', '.join(DEFENSES)} ({usage})")
    settings = make_dataclass(
        "Settings", [("recipe", DEFENSES[name].Recipe)], bases=(Training,), frozen=True, kw_only=True
    )
    named = changes.pop(0) if changes and not changes[0].startswith("-") else None
    if named is not None and named not in PRESETS:
        raise UserError(f"unknown preset {named!r}: expected one of {', '.join(PRESETS)} ({usage})")
    given = vars(PRESETS[named] if named else _config_of(changes))
    default = settings(**given, out=tyro.MISSING, recipe=DEFENSES[name].Recipe())
    parsed = _parsed(settings, f"grfd fit {name}", changes, description=DEFENSES[name].__doc__, default=default)
    return partial(fit, name, parsed, parsed.recipe)


def _config_of(options: list[str]) -> Config:
    """That of the run that `--out` names, if there is one; the paper's preset for MNIST else."""
    pairs = zip(options, [*options[1:], ""], strict=True)
    named = [value if option == "--out" else option[6:] for option, value in pairs if option.split("=")[0] == "--out"]
    there = bool(named) and (Path(named[-1]) / "config.json").exists()
    return runs.load(Path(named[-1])).config if there else PRESETS["mnist-lenet5"]


def _first_line(module: Any) -> str:
    return (module.__doc__ or "").splitlines()[0]


def _command(command: str, options: list[str]) -> Callable[[], None]:
    function = COMMANDS[command]

    @wraps(function)
    def call_later(*arguments: Any, **keywords: Any) -> Any:
        return partial(function, *arguments, **keywords)

    return _parsed(call_later, f"grfd {command}", options)


def _parsed(what: Any, program: str, options: list[str], **keywords: Any) -> Any:
    """tyro's answer. What it says of a mistake, in a box of many lines, becomes the one line of a `UserError`."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(what, prog=program, args=options, **keywords)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│╭╮╰╯─ ") for line in said.getvalue().splitlines()]
        told = " ".join(line for line in lines[1 : _end_of_message(lines)] if line)
        raise UserError(f"{told or lines[0]} (see {program} --help)") from None


def _end_of_message(lines: list[str]) -> int:
    """tyro rules a line, which is empty here, between what is wrong and the help."""
    return next((index for index, line in enumerate(lines[1:], 1) if not line), len(lines))


def _help() -> str:
    rows = [*((name, what) for name, (what, _) in TRAINING.items()), ("fit", FIT)]
    rows += [(name, (function.__doc__ or "").splitlines()[0]) for name, function in COMMANDS.items()]
    listed = "\n".join(f"  {name:<12} {what}" for name, what in rows)
    return (
        "grfd: robust feature disentanglement (GRFD) against adversarial examples, and an evaluation that holds.\n\n"
        f"usage: grfd COMMAND …   (grfd COMMAND --help explains units and defaults)\n\n{listed}\n\n"
        "First time: grfd demo. Training and evaluation that were stopped continue with the same command."
    )


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
    elif arguments[0] == "--version":
        print(runs.provenance()["versions"]["grfd"])
    elif arguments[0] == "fit":
        _fit(arguments[1:])()
    elif arguments[0] in TRAINING:
        _training(arguments[0], arguments[1:])()
    elif " ".join(arguments[:2]) in COMMANDS:  # a command of two words
        _command(" ".join(arguments[:2]), arguments[2:])()
    elif arguments[0] in COMMANDS:
        _command(arguments[0], arguments[1:])()
    else:
        raise UserError(f"unknown command {arguments[0]!r}: expected one of {', '.join([*TRAINING, 'fit', *COMMANDS])}")


def main() -> None:
    """Entry point: exit code 0, 2 for a user's mistake, 130 when stopped by Ctrl-C."""
    try:
        _dispatch(sys.argv[1:])
    except UserError as error:
        print(f"grfd: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("grfd: stopped; the same command continues from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
