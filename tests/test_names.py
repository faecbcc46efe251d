"""One name, one thing: no two public objects of the package share a name, except those that a registry asks for."""

import ast
from collections import defaultdict
from pathlib import Path

import grfd

PACKAGE = Path(grfd.__file__).parent
PROTOCOL = {
    "data": {"load"},
    "defenses": {
        "Recipe",
        "NAME",
        "TITLE",
        "NARROW_TITLE",
        "LITERATURE",
        "GREY",
        "COLOUR",
        "FILES",
        "check",
        "fit",
        "load",
    },
    "experiments": {"SCALES", "FOLDER", "cells", "show", "section", "draw"},
    "commands": {"MODES"},
}
"""Folder of a registry → what each of its modules has under the same name."""


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
        path = file.relative_to(PACKAGE)
        for name in public(file):
            if name not in PROTOCOL.get(path.parts[0], ()):
                places[name].append(str(path))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
