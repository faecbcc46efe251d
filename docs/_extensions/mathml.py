"""Equations as MathML, which browsers draw themselves.

Sphinx's own renderers load a script from a server (MathJax) or need LaTeX (imgmath). docutils, which Sphinx is built
on, has a converter to MathML, so that a page needs neither a network nor a script.
"""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def _written(node: nodes.Node, *, block: bool) -> str:
    try:
        return latex2mathml.tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        raise ExtensionError(f"an equation cannot be converted: {node.astext()!r}: {error}") from error


def visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(f'<span class="math">{_written(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_written(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
