"""The tutorial as a Jupyter notebook: `python docs/_extensions/notebook.py docs/tutorial.md` writes tutorial.ipynb.

Text becomes Markdown cells. A block of Python becomes a code cell; one that opens with `# NAME.py` writes that file. A
block of shell commands becomes a cell with an exclamation mark before each command. Other blocks stay text.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


class Block(NamedTuple):
    """A piece of the page: its language is "text" outside the fences."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The pieces of a Markdown page, in order."""
    pieces, end = [], 0
    for match in BLOCK.finditer(page):
        pieces += [Block("text", page[end : match.start()]), Block(match[1], match[2])]
        end = match.end()
    return [piece for piece in [*pieces, Block("text", page[end:])] if piece.text.strip()]


def file_of(block: Block) -> str | None:
    """The name of the file that a block of Python is the content of."""
    opening = FILE.match(block.text) if block.language == "python" else None
    return opening[1] if opening else None


def commands_of(block: Block) -> list[str]:
    """The commands of a shell block; a backslash at the end of a line continues it."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


def notebook(page: str) -> dict[str, Any]:
    """The notebook of a page, in nbformat 4.5."""
    cells = [_cell(index, block) for index, block in enumerate(_merged(blocks(page)))]
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": python}, "nbformat": 4, "nbformat_minor": 5}


def _merged(pieces: list[Block]) -> list[Block]:
    """Blocks that are no cells of code join the text around them."""
    joined: list[Block] = []
    for block in pieces:
        if block.language in ("python", "sh"):
            joined.append(block)
            continue
        text = block.text if block.language == "text" else f"```{block.language}\n{block.text}```\n"
        if joined and joined[-1].language == "text":
            text = joined.pop().text + text
        joined.append(Block("text", text))
    return joined


def _cell(index: int, block: Block) -> dict[str, Any]:
    about = {"id": f"cell-{index}", "metadata": {}, "source": _source(block).splitlines(keepends=True)}
    if block.language == "text":
        return {"cell_type": "markdown", **about}
    return {"cell_type": "code", "execution_count": None, **about, "outputs": []}


def _source(block: Block) -> str:
    if block.language == "sh":
        return "\n".join(f"!{command}" for command in commands_of(block))
    name = file_of(block)
    return f"%%writefile {name}\n{block.text}".strip() if name else block.text.strip()


def written(page: Path) -> Path:
    """Writes the notebook beside its page."""
    out = page.with_suffix(".ipynb")
    out.write_text(json.dumps(notebook(page.read_text()), indent=1, ensure_ascii=False) + "\n")
    return out


if __name__ == "__main__":
    print(f"written {written(Path(sys.argv[1]))}")
