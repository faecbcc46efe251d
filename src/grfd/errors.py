"""The exceptions that the command line prints as one line."""

import re

PASSWORD = re.compile(r"(://[^\s:/@]*:)\S*(?=@)|([?&][^\s=&]*(?:pass|secret|token)[^\s=&]*=)[^\s&]*", re.IGNORECASE)
"""A password in a URL: after the user's name, or in the query."""


def masked(text: str) -> str:
    """The same text, with three asterisks in place of the password of any URL."""
    return PASSWORD.sub(lambda match: f"{match[1] or match[2]}***", text)


class UserError(Exception):
    """A mistake that the user can correct: one line that names the file, key or shape, and what was expected.

    The command line prints the line and exits with code 2; no traceback is shown.
    """

    def __str__(self) -> str:
        """The message on one line, even if it quotes a library's error or a file name with control characters.

        Passwords are masked.
        """
        words = masked(" ".join(super().__str__().split("\n")))
        return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in words)


class Diverged(UserError):
    """A loss or a weight became NaN or infinite in training. Other settings help, and an experiment may report it."""


class Busy(UserError):
    """Another process is using a run folder. Waiting helps."""
