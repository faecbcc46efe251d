"""Help texts are for readers who do not know Python: no `{None}|STR`, no default that says nothing."""

import pytest

from grfd import cli
from grfd.commands.help_text import plain_help
from grfd.commands.registry import COMMANDS
from grfd.commands.train import TRAINING
from grfd.defenses import DEFENSES

CALLS = [*COMMANDS, *(f"{name} quick" for name in TRAINING), *(f"fit {name}" for name in DEFENSES)]


@pytest.mark.parametrize("call", CALLS)
def test_no_help_speaks_python(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli._dispatch([*call.split(), "--help"])
    said = capsys.readouterr().out
    assert not stopped.value.code and f"usage: grfd {call.removesuffix(' quick')}" in said
    assert "{None}" not in said and "(default: None)" not in " ".join(said.split())
    assert "(default: )" not in " ".join(said.split())
    assert not [line for line in said.splitlines() if line != line.rstrip()]


def test_columns_stay_aligned_and_real_defaults_are_told() -> None:
    written = (
        " --eps {None}|FLOAT  The largest change.\n"
        "                     (default: None)\n"
        " --names {None}|{[STR [STR ...]]}\n"
        "                     Some names, or all of them without it. (default:\n"
        "                     None)\n"
        " --steps INT         Steps. (default: 10)\n"
    )
    assert plain_help(written) == (
        " --eps FLOAT         The largest change.\n"
        " --names [STR [STR ...]]\n"
        "                     Some names, or all of them without it.\n"
        " --steps INT         Steps. (default: 10)\n"
    )
