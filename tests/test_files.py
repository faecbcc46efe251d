"""A user's files: whatever lies under a name, it is read whole or refused in one line, and nothing hangs."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grfd import files
from grfd.errors import UserError


def test_a_regular_file_is_read_and_so_is_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert files.read_regular(tmp_path / "a") == files.read_regular(tmp_path / "link", 10) == b"0123456789"


def test_a_file_above_the_limit_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as handle:
        handle.truncate(2**40)
    with pytest.raises(UserError, match=r"sparse has 1,099,511,627,776 bytes; expected at most 1,073,741,824"):
        files.read_regular(path)
    path.write_bytes(b"0123456789")
    with pytest.raises(UserError, match="has 10 bytes; expected at most 9"):
        files.read_regular(path, 9)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # the path of a socket has at most 108 characters


OTHERS = {
    "fifo": (fifo, "is a named pipe"),
    "socket": (unix_socket, "is a socket"),
    "folder": (Path.mkdir, "is a folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "is not there"),
    "link to itself": (lambda path: path.symlink_to(path), "cannot be opened: Too many levels of symbolic links"),
    "nothing": (lambda path: None, "is not there"),
}


@pytest.mark.parametrize(("make", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_regular_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, message) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x")
    with pytest.raises(UserError, match=f"/x {message}"):
        files.read_regular(tmp_path / "x")


ODD = {"long": "n" * 300, "null": "a\0b", "not encodable": "\ud800"}


@pytest.mark.parametrize("name", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("ask", [files.is_folder, files.is_there, files.is_regular, files.listed, files.read_regular])
def test_odd_names_are_one_line(tmp_path: Path, name: str, ask) -> None:
    with pytest.raises(UserError) as caught:
        ask(tmp_path / name)
    assert str(caught.value).isprintable()


def test_kinds_and_contents_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").touch()
    assert [path.name for path in files.listed(tmp_path)] == ["a", "b"]
    assert files.is_folder(tmp_path / "b") and not files.is_folder(tmp_path / "a")
    assert files.is_regular(tmp_path / "a") and not files.is_regular(tmp_path / "b")
    assert not files.is_there(tmp_path / "c") and not files.is_there(tmp_path / "a" / "c")
    with pytest.raises(UserError, match="a cannot be listed: Not a directory"):
        files.listed(tmp_path / "a")


def test_what_may_not_be_read_is_named(unprivileged: Path) -> None:
    (unprivileged / "file").touch(mode=0)
    (unprivileged / "folder").mkdir(mode=0)
    with pytest.raises(UserError, match="file cannot be read: Permission denied"):
        files.read_regular(Path("file"))
    with pytest.raises(UserError, match="folder cannot be listed: Permission denied"):
        files.listed(Path("folder"))
    with pytest.raises(UserError, match="folder/file cannot be opened: Permission denied"):
        files.is_there(Path("folder/file"))


@given(st.text())
def test_an_error_is_always_one_printable_line(words: str) -> None:
    assert str(UserError(words)).isprintable()
    assert str(UserError("one  line, [x]\\n: ε × ½")) == "one  line, [x]\\n: ε × ½"
