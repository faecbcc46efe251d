"""Docstrings of this project, which are plain text with names in backticks, as Sphinx wants them."""

import inspect
import re
from typing import Annotated, Any, get_args, get_origin

from sphinx.application import Sphinx

MARKED = re.compile(r"(`[^`]*`|(?<![\w*])\*\w[^*]*\w\*(?![\w*]))")
"""Code and emphasis, which stay."""


def escaped(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Asterisks, bars, and underscores at the end of a word are these characters where they stand outside backticks."""
    if (inspect.isroutine(value) or inspect.isclass(value)) and not value.__module__.startswith("grfd"):
        lines.clear()  # another project's, which is imported here and has no place on the page
    for index, line in enumerate(lines):
        if not line.lstrip().startswith(":"):  # what another extension has added
            pieces = MARKED.split(line)
            lines[index] = "".join(part if MARKED.fullmatch(part) else _plain(part) for part in pieces)


def _plain(text: str) -> str:
    return re.sub(r"(?<!\\)([*|]|(?<=\w)_(?!\w))", r"\\\1", text)


def uninteresting(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out the fields of named tuples, which Python documents as numbers; None keeps what Sphinx has decided."""
    return True if (getattr(value, "__doc__", None) or "").startswith("Alias for field number") else None


def readable(annotation: Any, config: Any) -> str | None:
    """A tensor by its type and its axes, as in the source, and a limited number as a number; None for all else."""
    if hasattr(annotation, "dim_str") and hasattr(annotation, "dtype"):
        return f'``{annotation.dtype.__name__}[Tensor, "{annotation.dim_str}"]``'
    if get_origin(annotation) is Annotated:
        return f"``{getattr(get_args(annotation)[0], '__name__', 'value')}``"
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", escaped, priority=100)
    app.connect("autodoc-skip-member", uninteresting)
    app.connect("config-inited", lambda app, config: setattr(config, "typehints_formatter", readable))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
