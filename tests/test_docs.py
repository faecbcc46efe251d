"""README and docs/: the tutorial runs, tables follow from records, links lead somewhere, words are explained."""

import importlib
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from grfd import cli
from grfd.commands.arguments import Options, given, options_of
from grfd.commands.registry import COMMANDS
from grfd.commands.train import TRAINING, Training, fit_settings
from grfd.evaluation import numbers
from grfd.experiments.paper import TABLE_3
from grfd.report.method_figure import draw_method
from grfd.report.sheets import Sheet, markdown

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


def first_table() -> str:
    """The README's five rows: the paper's number, and ours by what the attacker knows."""
    cells = numbers.grid(numbers.rows(ROOT / "results/mnist-lenet5"))
    printed = {name: f"{value:.1f}" for name, value in TABLE_3["mnist"]["grfd"].items()}
    rows = [["GRFD, printed in the paper", "not stated", *(printed.get(name, "–") for name in SHOWN)]]
    for title, model, protocol in (
        ("**no defense**, another network", "second-standard", "transfer"),
        ("GRFD", "grfd", "transfer"),
        ("**no defense**", "standard", "adaptive"),
        ("GRFD", "grfd", "adaptive"),
    ):
        line = cells[protocol, model]
        assert {line[name].examples for name in SHOWN} == {1000}
        rows.append([title, KNOWN[protocol], *(f"{100 * line[name].accuracy:.1f}" for name in SHOWN)])
    header = ["model", "what the attacker has", "clean", "FGSM", "PGD", "AA", "worst case"]
    return markdown(Sheet(header, rows, left=2))


SHOWN = ("none", "fgsm", "pgd", "aa", "worst")
KNOWN = {"transfer": "a network of their own (`transfer`)", "adaptive": "the whole model (`adaptive`)"}


def test_the_readmes_first_table_follows_from_committed_records() -> None:
    assert first_table() in (ROOT / "README.md").read_text()


def test_the_method_is_drawn_as_committed(tmp_path: Path) -> None:
    for file in draw_method(tmp_path):
        assert file.read_bytes() == (DOCS / file.name).read_bytes(), f"run grfd page to draw {file.name}"


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


ABBREVIATION = re.compile(r"\b[A-Z][A-Za-z]*[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*\b")


def test_every_abbreviation_of_the_readme_is_in_the_glossary() -> None:
    text = re.sub(r"\(https?:[^)]*\)|`[^`]*`", "", FENCE.sub("", (ROOT / "README.md").read_text()))
    explained = (DOCS / "glossary.md").read_text()
    missing = {word for word in ABBREVIATION.findall(text) if not re.search(rf"^\| [^|]*\b{word}\b", explained, re.M)}
    assert missing <= {"README", "CHANGELOG", "SECURITY", "CONTRIBUTING", "CITATION"}


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


SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands_on(page: Path) -> list[list[str]]:
    """The calls of grfd in a page's shell blocks, word by word; placeholders in capitals stand for values."""
    lines = "".join(SHELL.findall(page.read_text())).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    started = [each[each.index("grfd") + 1 :] for each in words if "grfd" in each]
    return [tokens for tokens in started if "…" not in tokens]


def options_for(tokens: list[str]) -> Options:
    """The options of the command that was typed."""
    if tokens[0] == "fit":
        return options_of(fit_settings(tokens[1]))
    if tokens[0] in TRAINING:
        return options_of(Training)
    return options_of(COMMANDS[" ".join(tokens[:2])] if " ".join(tokens[:2]) in COMMANDS else COMMANDS[tokens[0]])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_shows_is_there(page: Path) -> None:
    for tokens in commands_on(page):
        if not tokens[0].startswith("-"):
            given(options_for(tokens), tokens[1:], page.name)


DOTTED = re.compile(
    rf"`((?:grfd\.)?(?:{'|'.join(p.name for p in (ROOT / 'src/grfd').iterdir() if p.is_dir())})\.[\w.]+)`"
)
IN_PACKAGE = re.compile(r"`((?:src/grfd|tests|benchmarks|docs|data|models|attacks|method|defenses|evaluation|bench"
                        r"|experiments|commands)/[\w/]+\.(?:py|md|txt))`")  # fmt: skip
IN_RESULTS = re.compile(r"[`\"](results/[\w/.-]*\w)[`\"]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_code_on_a_page_exists(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for name in DOTTED.findall(text):
        if not name.endswith((".py", ".md", ".json")):
            assert resolved(f"grfd.{name.removeprefix('grfd.')}"), f"{page.name} names {name}"
    for path in IN_RESULTS.findall(page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
    for path in IN_PACKAGE.findall(text):
        places = [ROOT / path, ROOT / "src/grfd" / path]
        assert "NAME" in path or any(place.exists() for place in places), f"{page.name} names {path}"


def resolved(name: str) -> bool:
    """Whether a dotted name is a module, or a chain of attributes of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False
