"""What is written for a reader of the repository, as the site needs it: pages of the root, links to them, pictures."""

import re

from sphinx.application import Sphinx

COPIED = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
"""Pages of the repository's root, which the site shows too."""
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
ROOT_LINK = re.compile(r"\]\(\.\./(CONTRIBUTING|CHANGELOG|SECURITY)\.md")
PICTURE = re.compile(
    r'<picture>.*?srcset="(?P<dark>[^"]+)".*?alt="(?P<alt>[^"]+)"\s+src="(?P<light>[^"]+)".*?</picture>', re.DOTALL
)


def copied(text: str) -> str:
    """A page of the root as one of docs/generated/: its links lead on from there, or are plain text."""
    return LINK.sub(lambda match: _relinked(match[1], match[2]), text)


def _relinked(text: str, target: str) -> str:
    if re.match(r"[a-z]+:|#", target):
        return f"[{text}]({target})"
    if target.startswith("docs/"):
        return f"[{text}](../{target.removeprefix('docs/')})"
    return f"[{text}]({target.lower()})" if target in COPIED else text


def into_the_site(app: Sphinx, name: str, source: list[str]) -> None:
    """What is written for a reader of the repository, as the site needs it.

    A link to a page of the root leads to its copy. A picture in two versions follows the theme that the reader has
    chosen for the site.
    """
    text = ROOT_LINK.sub(lambda match: f"](generated/{match[1].lower()}.md", source[0])
    source[0] = PICTURE.sub(_in_both_themes, text)


def _in_both_themes(match: re.Match[str]) -> str:
    files = {"only-dark": match["dark"], "only-light": match["light"]}
    parts = [f"```{{image}} {file}\n:alt: {match['alt']}\n:class: {theme}\n```" for theme, file in files.items()]
    return "\n\n".join(parts)
