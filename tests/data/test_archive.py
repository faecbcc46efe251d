"""Archives: what is wanted of them, and nothing of the rest."""

import gzip
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grfd.data import archive
from grfd.data.archive import members
from grfd.errors import UserError


def entry(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found


def packed(*parts: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as made:
        for name, content in parts:
            made.addfile(entry(name, len(content)), io.BytesIO(content))
    return buffer.getvalue()


def test_only_the_wanted_are_kept_and_of_two_of_one_name_the_first(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(packed(("x/one", b"1"), ("x/other", b"0"), ("two", b"2"), ("y/one", b"3")))
    assert members(file, {"one", "two"}) == {"one": b"1", "two": b"2"}
    with pytest.raises(UserError, match=r"a.tar.gz holds no three: delete it and download it again"):
        members(file, {"one", "three"})


def test_what_nobody_asked_for_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(packed(("unwanted", bytes(2**26)), ("one", b"1")))
    tracemalloc.start()
    assert members(file, {"one"}) == {"one": b"1"}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_a_member_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(gzip.compress(entry("x/one", 2**40).tobuf()))
    with pytest.raises(UserError, match=r"a.tar.gz/one has 1,099,511,627,776 bytes; expected at most 268,435,456"):
        members(file, {"one"})


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE], ids=["long name", "pax header"])
def test_a_name_of_any_claimed_size_is_refused_unread(tmp_path: Path, kind: bytes) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(gzip.compress(entry("name", 2**40, kind).tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(UserError, match=r"is not a complete archive \(it asks for \d+ bytes at once; expected at most"):
        members(file, {"one"})


def test_what_is_passed_over_is_limited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(packed(("unwanted", bytes(2**20)), ("one", b"1")))
    monkeypatch.setattr(archive, "ARCHIVE_LIMIT", 2**20)
    with pytest.raises(UserError, match=r"is not a complete archive \(it has more than 1,048,576 bytes unpacked"):
        members(file, {"one"})


def test_the_number_of_members_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed(("other", b"0"), ("one", b"1")))
    monkeypatch.setattr(archive, "MOST_MEMBERS", 1)
    with pytest.raises(UserError, match=r"holds more than 1 members"):
        members(tmp_path / "a.tar.gz", {"one"})


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    content = bytearray(packed(("one", b"1")))
    content[-8] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"is not a complete archive \(CRC check failed"):
        members(tmp_path / "a.tar.gz", {"one"})


def test_links_and_folders_are_no_members(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    with tarfile.open(file, "w:gz") as made:
        for name, kind in (("x/one", tarfile.DIRTYPE), ("y/one", tarfile.SYMTYPE), ("z/one", tarfile.FIFOTYPE)):
            made.addfile(entry(name, 0, kind))
    with pytest.raises(UserError, match="holds no one"):
        members(file, {"one"})


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar.gz")
    with pytest.raises(UserError, match=r"a.tar.gz is a named pipe"):
        members(tmp_path / "a.tar.gz", {"one"})


WHOLE = gzip.decompress(packed(("x/one", b"1" * 600), ("x/other", b"0"), ("n" * 200, b"2")))


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """An archive whose headers have a few other bytes, packed, or one that is cut or spoilt after it was packed."""
    content = bytearray(WHOLE)
    for position in draw(st.lists(st.integers(0, len(WHOLE) - 1), max_size=4)):
        content[position] = draw(st.integers(0, 255))
    made = bytearray(gzip.compress(content, 1))
    for position in draw(st.lists(st.integers(0, len(made) - 1), max_size=2)):
        made[position] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.integers(0, len(made)))]) if draw(st.booleans()) else bytes(made)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.binary(max_size=600).map(gzip.compress) | spoilt())
def test_any_bytes_are_an_archive_or_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(content)
    try:
        assert set(members(file, {"one"})) == {"one"}
    except UserError as error:
        assert str(file) in str(error) and str(error).isprintable()
    assert file.read_bytes() == content
