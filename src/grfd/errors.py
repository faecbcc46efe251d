"""The one exception for a user's mistake."""


class UserError(Exception):
    """What a user can mend: one line that names the file, key or shape, and what was expected.

    The command line prints the line and exits with code 2; no traceback is shown.
    """
