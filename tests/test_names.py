"""One name, one thing: no two public objects of the package share a name, except those that a registry asks for."""

import ast
from collections import defaultdict
from pathlib import Path

import grfd

PACKAGE = Path(grfd.__file__).parent
PROTOCOL = {
    "a data set": {"FILES", "GREY", "COLOUR", "NAME", "TITLE", "load", "check"},
    "a defense": {"Recipe", "NAME", "TITLE", "LITERATURE", "fit", "load"},
    "an experiment": {"SCALES", "FOLDER", "cells", "show", "section", "draw"},
    "a family of commands": {"MODES"},
}
"""What every module of a registry has under the same name."""


def public(file: Path) -> list[str]:
    """The public functions, classes and constants that a file defines at its top."""
    names = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def test_no_two_public_objects_share_a_name() -> None:
    places = defaultdict(list)
    for file in sorted(PACKAGE.rglob("*.py")):
        for name in public(file):
            places[name].append(str(file.relative_to(PACKAGE)))
    protocol = set().union(*PROTOCOL.values())
    assert {name: files for name, files in places.items() if len(files) > 1 and name not in protocol} == {}
