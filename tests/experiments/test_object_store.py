"""Machines without a shared folder exchange their files through an object store, and lose nothing of either side."""

from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFile
from machines import TINY, reproduce_fig3, reproduce_together

from grfd.errors import UserError
from grfd.experiments import fig3, variants
from grfd.experiments.object_store import Store, fetch, open_store, send, send_or_say

RUN = "short-seed-0/records/a.npz"


def _machine(tmp_path: Path, name: str) -> Store:
    """A machine's folder of an experiment, and its place in the store that all machines of a test use."""
    folder = tmp_path / name / "law"
    folder.mkdir(parents=True, exist_ok=True)
    return open_store((tmp_path / "store").as_uri(), "law", folder)


def _write(machine: Store, name: str, content: str) -> Path:
    file = machine.folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def test_what_one_machine_sends_another_fetches_once(tmp_path: Path) -> None:
    first, second = _machine(tmp_path, "first"), _machine(tmp_path, "second")
    _write(first, RUN, "one")
    _write(first, "minutes-1-of-2.json", "{}")
    assert (send(first), send(first)) == (2, 0)
    assert (fetch(second), fetch(second)) == (2, 0)
    assert (second.folder / RUN).read_text() == "one"
    assert send(second) == 0, "what was fetched is not sent back"
    assert fetch(first) == 0, "what was sent is not fetched back"


def test_a_change_travels_both_ways(tmp_path: Path) -> None:
    first, second = _machine(tmp_path, "first"), _machine(tmp_path, "second")
    _write(first, RUN, "one")
    send(first)
    fetch(second)
    _write(second, RUN, "longer")
    assert (send(second), fetch(first)) == (1, 1)
    assert (first.folder / RUN).read_text() == "longer"


def test_locks_tables_and_half_written_files_stay_where_they_are(tmp_path: Path) -> None:
    first = _machine(tmp_path, "first")
    for name in (
        "short-seed-0/.lock",
        "short-seed-0/.a.npz.grfd-partial",
        "law.md",
        "other/a.npz",
        "short-seed-0/fig3.png",
    ):
        _write(first, name, "x")
    assert send(first) == 0


def test_a_file_that_both_sides_changed_stops_before_anything_is_copied(tmp_path: Path) -> None:
    first, second = _machine(tmp_path, "first"), _machine(tmp_path, "second")
    _write(first, RUN, "theirs")
    _write(first, "short-seed-0/b.npz", "new")
    send(first)
    mine = _write(second, RUN, "mine")
    with pytest.raises(UserError, match=r"a\.npz: changed here and in .*Delete on one side, whole: .*records"):
        fetch(second)
    assert mine.read_text() == "mine"
    assert not (second.folder / "short-seed-0/b.npz").exists()
    mine.unlink()
    assert fetch(second) == 2
    assert mine.read_text() == "theirs"


def test_a_file_that_was_deleted_here_is_fetched_again(tmp_path: Path) -> None:
    first, second = _machine(tmp_path, "first"), _machine(tmp_path, "second")
    _write(first, RUN, "one")
    send(first)
    fetch(second)
    (second.folder / RUN).unlink()
    assert fetch(second) == 1
    assert (second.folder / RUN).read_text() == "one"


def test_what_another_machine_has_sent_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    first, second = _machine(tmp_path, "first"), _machine(tmp_path, "second")
    assert fetch(first) == fetch(second) == 0
    _write(first, RUN, "of the first")
    _write(second, RUN, "of the second, which is longer")
    _write(second, "short-seed-1/b.npz", "of the second alone")
    send(first)
    with pytest.raises(UserError, match="Two machines must not work on the same seed"):
        send(second)
    assert first.files.cat_file(first.at(RUN)) == b"of the first"
    assert fetch(first) == 1, "the other files of the second were sent"


def test_another_store_gets_everything_and_so_does_an_emptied_one(tmp_path: Path) -> None:
    first = _machine(tmp_path, "first")
    _write(first, RUN, "one")
    send(first)
    other = open_store((tmp_path / "other").as_uri(), "law", first.folder)
    assert (fetch(other), send(other), send(other)) == (0, 1, 0)
    first.files.rm(first.at(RUN))
    assert send(first) == 1


def test_the_same_content_on_both_sides_is_no_clash(tmp_path: Path) -> None:
    first, second = _machine(tmp_path, "first"), _machine(tmp_path, "second")
    for machine in (first, second):
        _write(machine, RUN, "equal")
    send(first)
    fetch(second)
    assert send(second) == 0


def test_a_name_in_the_store_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    store = open_store("memory://bucket", "law", tmp_path / "machine" / "law")
    for name in ("short-seed-0/../../../escaped", "short-seed-0//absolute", "../short-seed-0/a", "short-seed-0/good"):
        path = f"{store.root}/{name}"
        store.files.store[path] = MemoryFile(store.files, path, b"x")
    assert len(store.files.find(store.root)) == 4
    assert fetch(store) == 1
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"good", "store.json"}


@pytest.mark.parametrize("url", ["nope://bucket/runs", "s3://bucket/runs", "bucket/runs"])
def test_an_unknown_store_or_a_missing_package_is_one_line(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--store {url}: .*(not known|s3fs|expected a URL)"):
        open_store(url, "law", tmp_path / "law")


def test_a_store_that_fails_after_a_cell_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = _machine(tmp_path, "first")
    (tmp_path / "store").write_text("a file where the store's folder should be")
    _write(machine, RUN, "work")
    send_or_say(machine)
    assert "not stored, the next cell tries again" in " ".join(capsys.readouterr().err.split())
    for action in (send, fetch):
        with pytest.raises(UserError, match="no exchange between"):
            action(machine)
    (tmp_path / "store").unlink()
    assert send(machine) == 1


def test_two_machines_do_all_of_an_experiment_and_a_third_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = (tmp_path / "store").as_uri()
    machines = [
        ("--out", str(tmp_path / f"machine-{number}"), "--shard", f"{number}/2", "--store", store) for number in (1, 2)
    ]
    assert reproduce_together(*machines) == [0, 0]
    monkeypatch.setitem(variants.SCHEDULES, "quick", TINY)
    reproduce_fig3("--out", str(tmp_path / "third"), "--store", store)
    told = " ".join(capsys.readouterr().err.split())
    assert "fetched" in told
    assert "1/" not in told, "nothing was left to do"
    assert all(cell.done() for cell in fig3.cells(tmp_path / "third", "quick", 2))
