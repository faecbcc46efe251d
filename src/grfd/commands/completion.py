"""Shell completion of commands, presets, defenses and options. tyro writes the script."""

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from typing import Annotated, Any, Literal, Union, get_args

import tyro

from grfd.commands.train import TRAINING, Training, fit_settings
from grfd.config import PRESETS
from grfd.defenses import DEFENSES
from grfd.experiments import EXPERIMENTS
from grfd.progress import console

Commands = Mapping[str, Callable[..., Any]]
Shell = Literal["bash", "zsh", "fish"]


def completion_command(shell: tyro.conf.Positional[Shell]) -> None:
    """Print a script with which your shell completes commands and options.

    bash: `grfd completion bash > ~/.local/share/bash-completion/completions/grfd`.
    zsh: `grfd completion zsh > FOLDER/_grfd`, where FOLDER is in fpath before compinit runs.
    fish: `grfd completion fish > ~/.config/fish/completions/grfd.fish`.

    Args:
        shell: Your shell.
    """
    from grfd.commands.registry import COMMANDS  # not at the top, because it contains this command

    console.print(completion_script(shell, COMMANDS), soft_wrap=True)


def completion_script(shell: Shell, commands: Commands) -> str:
    """The script for a shell. `commands`: name → function."""
    words: dict[str, Any] = {name: _with_words(dict.fromkeys(PRESETS, Training)) for name in TRAINING}
    words["fit"] = _with_words({name: fit_settings(name) for name in DEFENSES})
    words |= {name: function for name, function in commands.items() if " " not in name}
    bench = dict.fromkeys(("attacks", "parity", "transfer"), commands["bench"])
    words["bench"] = _with_words({**bench, "train": commands["bench train"]})
    words["completion"] = _with_words(dict.fromkeys(get_args(Shell), commands["completion"]))
    words["reproduce"] = _with_words(dict.fromkeys(EXPERIMENTS, commands["reproduce"]))
    written = io.StringIO()
    try:
        with redirect_stdout(written):
            tyro.extras.subcommand_cli_from_dict(words, prog="grfd", args=["--tyro-print-completion", shell])
    except SystemExit as stop:
        if stop.code:
            raise
    return "\n".join(_without_breaks(line) for line in written.getvalue().splitlines())


def _without_breaks(line: str) -> str:
    """A line break in a description would end it, and the shell would offer the rest as a word."""
    return line.replace("\\n", " ") if line.startswith("COMPLETION_SPEC = ") else line


def _with_words(kinds: Mapping[str, Any]) -> Callable[..., None]:
    """A command whose first word is a key of `kinds`. Its options are those of the value, a function or a record."""
    choices = tuple(Annotated[kind, tyro.conf.subcommand(word, prefix_name=False)] for word, kind in kinds.items())

    def command(choice: Any) -> None: ...

    command.__annotations__ = {"choice": Annotated[Union[choices], tyro.conf.arg(name="")], "return": None}  # noqa: UP007
    return command
