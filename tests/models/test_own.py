"""A user's code by name: what its import and its factories may raise and make, and where it is looked for."""

import functools
import sys
from pathlib import Path

import pytest
from torch import nn

from grfd.errors import UserError
from grfd.models.own import built_network, factory, importable_name, imported


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty, of a command that is installed: its modules are not found otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    forgotten = {name: module for name, module in sys.modules.items() if name not in ("mine", "beside")}
    monkeypatch.setattr(sys, "modules", forgotten)  # other tests have modules of these names
    return tmp_path


IMPORTS = {
    "syntax error": ("def make(:", "SyntaxError"),
    "exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "message of two lines": ("raise ValueError('one\\ntwo')", "ValueError: one two"),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "not UTF-8": (b"make = '\xff'", "SyntaxError"),
    "an import that is missing": ("import no_such_package", "no_such_package"),
    "exception of its own": ("class Odd(BaseException): pass\nraise Odd", "raised Odd"),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_what_an_import_raises_is_one_line(folder: Path, case: str) -> None:
    text, message = IMPORTS[case]
    (folder / "mine.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match="model 'mine:make'") as caught:
        imported("mine:make")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_ctrl_c_in_an_import_stops_the_command(folder: Path) -> None:
    (folder / "mine.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        imported("mine:make")


@pytest.mark.parametrize(
    "name", ["mine", ":make", "mine:", "..mine:make", "mine:make()", "a b:c", "os:<lambda>", "/x:y"]
)
def test_what_is_no_name_is_refused_before_any_import(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"expected package\.module:factory"):
        imported(name)


def test_the_current_folder_is_searched_and_then_forgotten(folder: Path) -> None:
    (folder / "mine.py").write_text("def make():\n    import beside\n    return beside.net()\n")
    (folder / "beside.py").write_text("from torch import nn\nnet = nn.Flatten\n")
    before = list(sys.path)
    assert isinstance(factory("'mine:make'", imported("mine:make"))(), nn.Flatten)
    assert sys.path == before


def test_an_attribute_of_a_class_is_found(folder: Path) -> None:
    (folder / "mine.py").write_text("from torch import nn\nclass Nets:\n    flat = nn.Flatten\n")
    assert imported("mine:Nets.flat") is nn.Flatten


def _raises() -> nn.Module:
    raise RuntimeError("no weights\nhere")


def _exits() -> nn.Module:
    raise SystemExit(1)


MADE = {
    "raises": (_raises, "net raised RuntimeError: no weights here"),
    "exits": (_exits, "net raised SystemExit: 1"),
    "wants an argument": (lambda size: nn.Flatten(), "missing 1 required positional argument: 'size'"),
    "text": (lambda: "resnet", "net returns a str: expected a torch.nn.Module"),
    "nothing": (lambda: None, "net returns a NoneType"),
    "a class": (
        lambda: nn.Flatten,
        r"net returns the class Flatten: expected a torch.nn.Module, for example Flatten\(\)",
    ),
}


@pytest.mark.parametrize("case", MADE)
def test_what_a_factory_does_instead_is_one_line(case: str) -> None:
    make, message = MADE[case]
    with pytest.raises(UserError, match=message):
        built_network("net", make)


@pytest.mark.parametrize("given", [nn.Flatten(), 5, ["lenet5"]])
def test_what_is_no_factory_is_refused(given: object) -> None:
    with pytest.raises(UserError, match="expected a function or class that makes a"):
        factory("net", given)


class Net(nn.Flatten):
    pass


@pytest.mark.parametrize("make", [Net, functools.partial(Net, 1), functools.partial(functools.partial(Net), 2)])
def test_what_makes_a_model_is_named_as_it_can_be_imported(make: object) -> None:
    assert importable_name(make) == f"{__name__}:Net"
