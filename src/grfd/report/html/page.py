"""Turns the content of a report into one HTML file that needs nothing else: no network, no other file.

The charts are drawn by Vega (through vega-embed), which is taken from the package vl-convert-python and embedded once.
A Content-Security-Policy allows only the scripts and the style sheet of this file, by their hashes, and only images
within it. Vega therefore interprets its expressions instead of compiling them.
"""

import base64
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from grfd.errors import UserError
from grfd.report.html.content import ReportContent

_TEMPLATES = Path(__file__).with_name("templates")
MISSING_LIBRARY = "a report needs vl-convert-python: pip install 'grfd[report]'"


def has_library() -> bool:
    """Whether the chart library, an optional dependency, is installed."""
    try:
        import vl_convert  # noqa: F401
    except ImportError:
        return False
    return True


def check_library() -> None:
    """Raises `UserError` where the chart library is not installed, before any work is done."""
    if not has_library():
        raise UserError(MISSING_LIBRARY)


@lru_cache(maxsize=1)
def chart_library() -> str:
    """The source of vega-embed, with Vega and Vega-Lite. Raises `UserError` where the package is not installed."""
    check_library()
    import vl_convert

    return _inside_script(str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")))


def rendered(content: ReportContent) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    style = _template("style.css")
    scripts = [chart_library(), _inside_script(_template("explorer.js"))]
    data = {"explorer": content.explorer.data, "sprite": content.explorer.sprite, "charts": _specs(content)}
    return environment.get_template("page.html").render(
        content=content, style=style, scripts=scripts, data=as_script_data(data), policy=policy_of(style, scripts)
    )


def policy_of(style: str, scripts: list[str]) -> str:
    """The Content-Security-Policy of a page with this style sheet and these scripts."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def as_script_data(value: Any) -> str:
    """JSON that can stand in a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _specs(content: ReportContent) -> list[dict[str, Any]]:
    return [
        {"place": f"chart-{number}-{chart.name}", "spec": chart.spec}
        for number, run in enumerate(content.runs)
        for chart in run.charts
    ]


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _inside_script(source: str) -> str:
    """A script in which no string ends the element. Windows' line ends would change its hash."""
    return source.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
