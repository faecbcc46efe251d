"""The `grfd` command: what was typed becomes a call of a command, or one line and exit code 2."""

import sys
from collections.abc import Callable
from dataclasses import make_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import tyro

from grfd import files, processes, runs
from grfd.commands.arguments import HELP, call_of, given, options_of, parsed
from grfd.commands.registry import COMMANDS, MODES
from grfd.commands.train import TRAINING, Fitting, Training, fit
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES
from grfd.errors import UserError
from grfd.progress import console
from grfd_command import guarded

FIT = "Fit one of the rival defenses in a run folder, beside the standard models that it is judged with."


def _training(command: str, tokens: list[str]) -> Callable[[], None]:
    """Presets are defaults of one and the same record, so every field can be changed on top of any."""
    what, action = TRAINING[command]
    usage = f"grfd {command} PRESET --out RUN [--FIELD VALUE …]"
    if not tokens or tokens[0] in HELP:
        _alone(tokens)
        console.print(f"{what}\n\nusage: {usage}\npresets: {', '.join(PRESETS)}\n")
        tokens = ["quick", "--help"]
    name, *changes = tokens
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)} ({usage})")
    program = f"grfd {command} {name}"
    given(options_of(Training), changes, f"{program} --help")
    default = Training(**vars(PRESETS[name]), out=tyro.MISSING)
    settings = parsed(Training, program, changes, description=what, default=default)
    return partial(action, settings)


def _fit(tokens: list[str]) -> Callable[[], None]:
    """Settings default to those of the run folder, where it is there: a defense joins the models of that run.

    A preset that is named goes before; a folder of other settings then refuses it.
    """
    usage = "grfd fit DEFENSE [PRESET] --out RUN [--recipe.FIELD VALUE …] [--FIELD VALUE …]"
    if not tokens or tokens[0] in HELP:
        _alone(tokens)
        listed = "\n".join(f"  {name:<25}{_first_line(module)}" for name, module in DEFENSES.items())
        presets = f"presets: {', '.join(PRESETS)}"
        console.print(f"{FIT}\n\nusage: {usage}\n{presets}\n\n{listed}\n\ngrfd fit DEFENSE --help: its recipe.")
        return lambda: None
    name, *changes = tokens
    if name not in DEFENSES:
        raise UserError(f"unknown defense {name!r}: expected one of {', '.join(DEFENSES)} ({usage})")
    preset = changes.pop(0) if changes and not changes[0].startswith("-") else None
    if preset is not None and preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)} ({usage})")
    record = fit_settings(name)
    typed = given(options_of(record), changes, f"grfd fit {name} --help")
    settings = vars(PRESETS[preset] if preset else _config_of(changes))
    default = record(**settings, out=tyro.MISSING, recipe=DEFENSES[name].Recipe())
    chosen = parsed(record, f"grfd fit {name}", changes, description=DEFENSES[name].__doc__, default=default)
    return partial(fit, name, chosen, chosen.recipe, trust=chosen.trust or "model" in typed)


@cache
def fit_settings(defense: str) -> type[Any]:
    """The record of all that `grfd fit DEFENSE` can be given."""
    recipe = ("recipe", DEFENSES[defense].Recipe)
    return make_dataclass("Settings", [recipe], bases=(Fitting,), frozen=True, kw_only=True)


def _config_of(tokens: list[str]) -> Config:
    """That of the run that `--out` names, if there is one; the paper's preset for MNIST else."""
    following = [*tokens[1:], ""]
    named = [value if token == "--out" else token[6:] for token, value in zip(tokens, following, strict=False)
             if token.split("=")[0] == "--out"]  # fmt: skip
    there = bool(named) and files.is_there(Path(named[-1]) / "config.json")
    return runs.load(Path(named[-1])).config if there else PRESETS["mnist-lenet5"]


def _first_line(module: Any) -> str:
    return (module.__doc__ or "").splitlines()[0]


def _help() -> str:
    rows = [*((name, what) for name, (what, _) in TRAINING.items()), ("fit", FIT)]
    rows += [(name, (function.__doc__ or "").splitlines()[0]) for name, function in COMMANDS.items()]
    listed = "\n".join(f"  {name:<12} {what}" for name, what in rows)
    return (
        "grfd: robust feature disentanglement (GRFD) against adversarial examples, and an evaluation that holds.\n\n"
        f"usage: grfd COMMAND …   (grfd COMMAND --help explains units and defaults)\n\n{listed}\n\n"
        "First time: grfd demo. Training and evaluation that were stopped continue with the same command."
    )


def _alone(tokens: list[str]) -> None:
    """Raises `UserError` for what stands behind a word that ends the command."""
    if len(tokens) > 1:
        raise UserError(f"nothing can follow {tokens[0]}, got {tokens[1]!r}")


def _dispatch(tokens: list[str]) -> None:
    """Does what was typed behind `grfd`. Raises `UserError` for a mistake."""
    processes.check()
    if not tokens or tokens[0] in HELP:
        _alone(tokens)
        print(_help())
    elif tokens[0] == "--version":
        _alone(tokens)
        print(runs.provenance()["versions"]["grfd"])
    elif tokens[0] == "fit":
        _fit(tokens[1:])()
    elif tokens[0] in TRAINING:
        _training(tokens[0], tokens[1:])()
    else:
        words = 2 if " ".join(tokens[:2]) in COMMANDS else 1  # a command may be of two words
        name = " ".join(tokens[:words])
        if name not in COMMANDS:
            raise UserError(f"unknown command {name!r}: expected one of {', '.join([*TRAINING, 'fit', *COMMANDS])}")
        call_of(COMMANDS[name], f"grfd {name}", tokens[words:], MODES.get(name, ()))()


def main() -> None:
    """Entry point: exit code 0, 2 for a user's mistake, 130 when stopped by Ctrl-C, 143 by SIGTERM."""
    guarded(lambda: _dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
