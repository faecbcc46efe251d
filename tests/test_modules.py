"""Every module is what its path says: no function of a package stands before a module of the same name."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import grfd

MODULES = ["grfd", *sorted(found.name for found in pkgutil.walk_packages(grfd.__path__, "grfd."))]


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("grfd", "grfd.__main__")])
def test_a_module_is_an_attribute_of_its_package(name: str) -> None:
    module = importlib.import_module(name)
    package, _, leaf = name.rpartition(".")
    assert getattr(sys.modules[package], leaf) is module


def test_no_module_needs_what_windows_does_not_have() -> None:
    missing = ("fcntl", "resource", "termios", "tty", "pwd", "grp", "syslog")
    code = f"""
import sys
import optuna, torch.distributed, matplotlib.pyplot, multiprocessing.pool  # libraries have their own ways around it
for name in {missing!r}:
    sys.modules[name] = None
import importlib
for name in {[name for name in MODULES if name != "grfd.__main__"]!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
