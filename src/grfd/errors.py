"""The exceptions that become one line."""

import re

PASSWORD = re.compile(r"(://[^\s:/@]*:)\S*(?=@)|([?&][^\s=&]*(?:pass|secret|token)[^\s=&]*=)[^\s&]*", re.IGNORECASE)
"""In a URL, behind the user's name or in the query."""


def masked(text: str) -> str:
    """The same text with three asterisks for the password of any URL in it."""
    return PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", text)


class UserError(Exception):
    """What a user can mend: one line that names the file, key or shape, and what was expected.

    The command line prints the line and exits with code 2; no traceback is shown.
    """

    def __str__(self) -> str:
        """The message on one line, whatever is quoted in it: a library's error, or a file name with odd characters.

        Passwords in it are masked.
        """
        words = masked(" ".join(super().__str__().split("\n")))
        return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in words)


class Diverged(UserError):
    """Training left the finite numbers: what a user can mend by other settings, and an experiment may report."""


class Busy(UserError):
    """Another process is at work in a run folder: waiting helps."""
