"""README and docs/: the tutorial runs, tables follow from records, links lead somewhere, words are explained."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from grfd import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"


def _notebook_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook", DOCS / "_extensions/notebook.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebook = _notebook_module()


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that a reader of the tutorial stands in; their modules are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def test_the_tutorial_runs_as_it_is_written(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    for block in notebook.blocks(TUTORIAL.read_text()):
        if file := notebook.file_of(block):
            (working_folder / file).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, str(TUTORIAL), "exec"), names)
        elif block.language == "sh":
            for command in notebook.commands_of(block):
                program, *tokens = shlex.split(command)
                assert program == "grfd"
                monkeypatch.setattr(sys, "argv", [program, *tokens])
                cli.main()
    printed = capsys.readouterr().out
    assert "Masking checks" in printed and "whitebox  pgd" in printed
    logits, defense = names["logits"], names["defense"]
    assert logits.shape == (4, 10) and type(defense).__name__ == "GRFD"


def test_what_the_tutorial_installs_is_what_make_installs_for_the_demo() -> None:
    installed = [block for block in notebook.blocks(TUTORIAL.read_text()) if block.language == "console"]
    assert [notebook.commands_of(block)[0] for block in installed] == ["make .venv/demo"]
    assert "demo: $(VENV)/demo" in (ROOT / "Makefile").read_text()


def test_the_notebook_is_the_tutorial_over_again() -> None:
    stored = json.loads(TUTORIAL.with_suffix(".ipynb").read_text())
    assert stored == notebook.notebook(TUTORIAL.read_text()), "run make docs"


def test_a_page_becomes_a_notebook_block_by_block() -> None:
    page = (
        "# A\n\n```sh\ngrfd data \\\n    --help\n```\n\nb\n\n```python\n# f.py\nx = 1\n```\n\n```console\nmake\n```\n"
    )
    cells = notebook.notebook(page)["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "markdown", "code", "markdown"]
    assert ["".join(cell["source"]) for cell in cells] == [
        "# A", "!grfd data --help", "b", "%%writefile f.py\n# f.py\nx = 1", "```console\nmake\n```",
    ]  # fmt: skip


PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """What the links of a page lead to, those to other hosts left out."""
    targets = [first or second for first, second in LINK.findall(FENCE.sub("", page.read_text()))]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of a page's headings, and those that the page names itself."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in links(page):
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.is_relative_to(DOCS / "generated"):  # written from the code by `make docs`, which checks them
            continue
        assert file.exists(), f"{page.name} links to {target}"
        if fragment and file.suffix == ".md":
            assert fragment in anchors(file), f"{page.name} links to {target}"
