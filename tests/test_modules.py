"""Every module is what its path says: no function of a package stands before a module of the same name."""

import importlib
import pkgutil
import sys

import pytest

import grfd

MODULES = ["grfd", *sorted(found.name for found in pkgutil.walk_packages(grfd.__path__, "grfd."))]


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("grfd", "grfd.__main__")])
def test_a_module_is_an_attribute_of_its_package(name: str) -> None:
    module = importlib.import_module(name)
    package, _, leaf = name.rpartition(".")
    assert getattr(sys.modules[package], leaf) is module
