"""Layering: a folder imports only from those above it (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

import grfd

PACKAGE = Path(grfd.__file__).parent
FOUNDATION = ("types", "errors", "files", "schema", "config", "seeds", "processes", "folders", "tensors", "runs")
FOUNDATION += ("progress", "memory")
FOLDERS = (
    "data",
    "models",
    "training",
    "attacks",
    "method",
    "defenses",
    "evaluation",
    "report",
    "api",
    "experiments",
    "bench",
    "commands",
)
TOP = ("cli", "__main__", "__init__")
DOWN = [*FOLDERS, *TOP]
ORDER = dict.fromkeys(FOUNDATION, 0) | {name: 1 + index for index, name in enumerate(DOWN)}


def imports(file: Path) -> set[str]:
    """The parts of grfd that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "grfd":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("grfd."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("grfd.")}
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_up(file: Path) -> None:
    here = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(file):
        assert name in ORDER, f"{file} imports grfd.{name}, which is not in the list"
        assert ORDER[name] <= ORDER[here], f"{file} imports grfd.{name}, which lies below it"


def test_every_folder_is_in_the_list() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= set(FOLDERS)
