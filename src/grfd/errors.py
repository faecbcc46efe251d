"""The exceptions that become one line."""


class UserError(Exception):
    """What a user can mend: one line that names the file, key or shape, and what was expected.

    The command line prints the line and exits with code 2; no traceback is shown.
    """

    def __str__(self) -> str:
        """The message on one line, whatever is quoted in it: a library's error, or a file name with odd characters."""
        words = " ".join(super().__str__().split("\n"))
        return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in words)


class Diverged(UserError):
    """Training left the finite numbers: what a user can mend by other settings, and an experiment may report."""


class Busy(UserError):
    """Another process is at work in a run folder: waiting helps."""
