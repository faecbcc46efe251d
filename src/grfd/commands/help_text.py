"""The text of --help without the notation of Python: an option that may be left out is not `{None}|STR`."""

import re

_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"\[\{None\}\|([^\]\s]+)\]", r"[\1]       "),
    (r"\{None\}\|\{(\[[^{}]*\])\}", r"\1         "),
    (r"\{None\}\|(\S+)", r"\1       "),
    (r"\n +\(default:\s+(None)?\) *(?=\n)", ""),
    (r" *\(default:\s+(None)?\)", ""),
    (r" +(?=\n)", ""),
)
"""Pattern → what takes its place. Names of values are as wide as before, because the texts beside them are aligned."""


def plain_help(text: str) -> str:
    """The help text of a command, as tyro writes it, in words that a reader without Python understands."""
    for pattern, ours in _PATTERNS:
        text = re.sub(pattern, ours, text)
    return text
