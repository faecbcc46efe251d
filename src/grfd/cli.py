"""The `grfd` command: turns a command line into the call of a command, or into one line and exit code 2."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from grfd import files, processes, runs, schema
from grfd.api.job import Own
from grfd.commands.arguments import HELP, call_of, given, options_of, parsed
from grfd.commands.config_file import config_with, is_of_a_run, read_settings_file
from grfd.commands.registry import COMMANDS, MODES
from grfd.commands.train import TRAINING, Training, fit_command, fit_settings
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES
from grfd.errors import UserError
from grfd.progress import console
from grfd_command import guarded

FIT = "Fit one of the other defenses in a run folder, together with the standard models."
DEFAULT_PRESET = "mnist-lenet5"
"""The preset for `grfd fit` and `--config` if none is named: the paper's settings for MNIST."""


def _training(command: str, tokens: list[str]) -> Callable[[], None]:
    """A training command. Presets are defaults of the same record, so that each field can be changed in any preset."""
    what, action = TRAINING[command]
    usage = f"grfd {command} [PRESET] --out RUN [--config FILE] [--FIELD VALUE …]"
    if not tokens or tokens[0] in HELP:
        _alone(tokens)
        console.print(f"{what}\n\nusage: {usage}\npresets: {', '.join(PRESETS)} (required without --config)\n")
        tokens = ["quick", "--help"]
    preset, changes = _preset_of(tokens, usage)
    program = f"grfd {command} {preset or 'PRESET'}"
    typed = given(options_of(Training), changes, f"{program} --help")
    if preset is None and "config" not in typed:
        raise UserError(f"expected a preset, one of {', '.join(PRESETS)}, or --config FILE ({usage})")
    base = PRESETS[preset or DEFAULT_PRESET]
    file, values = _values_of(typed)
    default = Training(**vars(config_with(base, values, file) if file else base), out=tyro.MISSING)
    asked = parsed(Training, program, changes, description=what, default=default)
    if asked.trust and not file:
        reason = "a model that you name yourself is imported without it"
        raise UserError(f"--trust does not apply to grfd {command} without --config: {reason}")
    named, data_named = (_is_named(typed, file, option) for option in ("model", "data"))
    return partial(action, asked, Own(trust=asked.trust or named, trust_data=asked.trust or data_named))


def _fit(tokens: list[str]) -> Callable[[], None]:
    """`grfd fit`. The default settings are those of the run folder, if it exists: the defense joins that run.

    A preset or a file replaces them; if the folder has other settings, the command is then refused.
    """
    usage = "grfd fit DEFENSE [PRESET] --out RUN [--config FILE] [--recipe.FIELD VALUE …] [--FIELD VALUE …]"
    if not tokens or tokens[0] in HELP:
        _alone(tokens)
        listed = "\n".join(f"  {name:<25}{_first_line(module)}" for name, module in DEFENSES.items())
        presets = f"presets: {', '.join(PRESETS)}"
        console.print(f"{FIT}\n\nusage: {usage}\n{presets}\n\n{listed}\n\ngrfd fit DEFENSE --help: its recipe.")
        return lambda: None
    name, *rest = tokens
    if name not in DEFENSES:
        raise UserError(f"unknown defense {name!r}: expected one of {', '.join(DEFENSES)} ({usage})")
    preset, changes = _preset_of(rest, usage)
    record, kind = fit_settings(name), DEFENSES[name].Recipe
    typed = given(options_of(record), changes, f"grfd fit {name} --help")
    base = PRESETS[preset] if preset else _config_of(changes)
    file, values = _values_of(typed)
    recipe: schema.Settings = schema.built(kind, values.pop("recipe", {}), f"{file}: recipe of {name}")
    default = record(**vars(config_with(base, values, file) if file else base), out=tyro.MISSING, recipe=recipe)
    asked = parsed(record, f"grfd fit {name}", changes, description=DEFENSES[name].__doc__, default=default)
    named, data_named = (
        option in typed or (option in values and _is_named(typed, file, option)) for option in ("model", "data")
    )
    own = Own(trust=asked.trust or named, trust_data=asked.trust or data_named)
    return partial(fit_command, name, asked, asked.recipe, own)


def _preset_of(tokens: list[str], usage: str) -> tuple[str | None, list[str]]:
    """The preset, if the first word is one, and the remaining words."""
    if not tokens or tokens[0].startswith("-"):
        return None, tokens
    if tokens[0] not in PRESETS:
        raise UserError(f"unknown preset {tokens[0]!r}: expected one of {', '.join(PRESETS)} ({usage})")
    return tokens[0], tokens[1:]


def _values_of(typed: dict[str, list[str]]) -> tuple[Path | None, dict[str, Any]]:
    """The file after `--config` and its content; None and nothing without that option."""
    file = Path(typed["config"][0]) if "config" in typed else None
    return file, read_settings_file(file) if file else {}


def _is_named(typed: dict[str, list[str]], file: Path | None, option: str) -> bool:
    """Whether model or data were named by the user, and not by a run folder, which may come from somebody else."""
    return option in typed or file is None or not is_of_a_run(file)


def _config_of(tokens: list[str]) -> Config:
    """The configuration of the run in `--out`, if there is one, otherwise the default preset."""
    following = [*tokens[1:], ""]
    named = [value if token == "--out" else token[6:] for token, value in zip(tokens, following, strict=False)
             if token.split("=")[0] == "--out"]  # fmt: skip
    there = bool(named) and files.is_there(Path(named[-1]) / "config.json")
    return runs.load(Path(named[-1])).config if there else PRESETS[DEFAULT_PRESET]


def _first_line(module: Any) -> str:
    return (module.__doc__ or "").splitlines()[0]


def _help() -> str:
    rows = [*((name, what) for name, (what, _) in TRAINING.items()), ("fit", FIT)]
    rows += [(name, (function.__doc__ or "").splitlines()[0]) for name, function in COMMANDS.items()]
    listed = "\n".join(f"  {name:<12} {what}" for name, what in rows)
    return (
        "grfd: GRFD (Li et al. 2025), a defense against adversarial examples, with attacks and an evaluation.\n\n"
        f"usage: grfd COMMAND …   (grfd COMMAND --help explains units and defaults)\n\n{listed}\n\n"
        "To begin: grfd demo. If training or evaluation is stopped, the same command continues it."
    )


def _alone(tokens: list[str]) -> None:
    """Raises `UserError` if anything follows a word that must be the last one."""
    if len(tokens) > 1:
        raise UserError(f"nothing can follow {tokens[0]}, got {tokens[1]!r}")


def _dispatch(tokens: list[str]) -> None:
    """Runs the command in `tokens`, the words after `grfd`. Raises `UserError` for a mistake."""
    processes.check_launch()
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
        words = 2 if " ".join(tokens[:2]) in COMMANDS else 1  # a command may have two words
        name = " ".join(tokens[:words])
        if name not in COMMANDS:
            raise UserError(f"unknown command {name!r}: expected one of {', '.join([*TRAINING, 'fit', *COMMANDS])}")
        call_of(COMMANDS[name], f"grfd {name}", tokens[words:], MODES.get(name, ()))()


def main() -> None:
    """Entry point: exit code 0, 2 for a user's mistake, 130 when stopped by Ctrl-C, 143 by SIGTERM."""
    guarded(lambda: _dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
