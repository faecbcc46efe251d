"""The `grfd` command: what was typed becomes a call of a command, or one line and exit code 2."""

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

FIT = "Fit one of the rival defenses in a run folder, beside the standard models that it is judged with."
DEFAULT_PRESET = "mnist-lenet5"
"""What `grfd fit` and `--config` begin with where no preset is named: the paper's settings for MNIST."""


def _training(command: str, tokens: list[str]) -> Callable[[], None]:
    """Presets are defaults of one and the same record, so every field can be changed on top of any."""
    what, action = TRAINING[command]
    usage = f"grfd {command} [PRESET] --out RUN [--config FILE] [--FIELD VALUE …]"
    if not tokens or tokens[0] in HELP:
        _alone(tokens)
        console.print(f"{what}\n\nusage: {usage}\npresets: {', '.join(PRESETS)} (needed where no --config is given)\n")
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
    return partial(action, asked, Own(trust=asked.trust or _is_named(typed, file)))


def _fit(tokens: list[str]) -> Callable[[], None]:
    """Settings default to those of the run folder, where it is there: a defense joins the models of that run.

    A preset that is named goes before, and so do the settings in a file; a folder of other settings then refuses them.
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
    named = "model" in typed or ("model" in values and _is_named(typed, file))
    return partial(fit_command, name, asked, asked.recipe, Own(trust=asked.trust or named))


def _preset_of(tokens: list[str], usage: str) -> tuple[str | None, list[str]]:
    """The preset that stands first, if one does, and what follows."""
    if not tokens or tokens[0].startswith("-"):
        return None, tokens
    if tokens[0] not in PRESETS:
        raise UserError(f"unknown preset {tokens[0]!r}: expected one of {', '.join(PRESETS)} ({usage})")
    return tokens[0], tokens[1:]


def _values_of(typed: dict[str, list[str]]) -> tuple[Path | None, dict[str, Any]]:
    """The file that `--config` names, and what it holds; nothing where there is none."""
    file = Path(typed["config"][0]) if "config" in typed else None
    return file, read_settings_file(file) if file else {}


def _is_named(typed: dict[str, list[str]], file: Path | None) -> bool:
    """Whether the user named the model, and no run folder did, which may come from somebody else."""
    return "model" in typed or file is None or not is_of_a_run(file)


def _config_of(tokens: list[str]) -> Config:
    """That of the run that `--out` names, if there is one; the default preset's else."""
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
