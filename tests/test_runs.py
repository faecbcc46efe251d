import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grfd import runs
from grfd.config import Config
from grfd.errors import UserError


def test_a_run_is_created_once_and_found_again(tmp_path: Path) -> None:
    config = Config(seed=3, data_dir=Path("somewhere"), alpha=(3.0, 2.0, 1.0))
    assert runs.create(tmp_path / "run", config).config == config
    assert runs.load(tmp_path / "run").config == config
    assert runs.create(tmp_path / "run", config).config == config


def test_another_configuration_is_refused_by_field(tmp_path: Path) -> None:
    runs.create(tmp_path, Config())
    with pytest.raises(UserError, match=r"gamma 0\.4 → 0\.5"):
        runs.create(tmp_path, Config(gamma=0.5))


def test_images_that_have_moved_need_one_edit(tmp_path: Path) -> None:
    runs.create(tmp_path, Config(data_dir=Path("old")))
    moved = Config(data_dir=Path("new"))
    with pytest.raises(UserError, match=r"data_dir old → new.*where the same images have moved, change data_dir in"):
        runs.create(tmp_path, moved)
    with pytest.raises(UserError, match=r"choose another folder$"):
        runs.create(tmp_path, Config(data_dir=Path("new"), gamma=0.5))
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"old"', '"new"'))
    assert runs.create(tmp_path, moved).config == moved


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="not empty and holds no run"):
        runs.create(tmp_path, Config())
    assert (tmp_path / "thesis.tex").read_text() == "important"


WRONG = [
    b"", b"{", b"null", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"config": []}', b'{"config": {}}', b"{}",
    b'{"config": {"alpha": [1]}}', b'{"config": {"no_such_field": 1}}',
]  # fmt: skip


@pytest.mark.parametrize("content", WRONG, ids=lambda content: str(content[:20]))
def test_a_damaged_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        runs.load(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == content


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", "3"), ("epochs", 0), ("kl", "nope"), ("alpha", [1, 2]), ("data_dir", 3), ("seed", None), ("beta", "x")],
)
def test_a_configuration_with_a_wrong_value_names_it(tmp_path: Path, field: str, value: object) -> None:
    runs.create(tmp_path, Config())
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["config"][field] = value
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=rf"config\.json cannot be read as a run's configuration: {field} must be"):
        runs.load(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "fifo"])
def test_a_configuration_that_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "config.json")
    with pytest.raises(UserError, match="expected a regular file"):
        runs.load(tmp_path)


@given(st.binary(max_size=200) | st.from_type(dict).map(lambda each: json.dumps(str(each)).encode()))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_as_a_configuration_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError) as caught, runs.locked(tmp_path):
        pass
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == {"config.json": content}


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(st.sampled_from([field.name for field in fields(Config)]), VALUES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_a_setting_is_read_or_one_line(tmp_path: Path, field: str, value: object) -> None:
    file = tmp_path / "config.json"
    stored = json.loads((runs.create(tmp_path / "right", Config()).path / "config.json").read_text())
    stored["config"][field] = value
    file.write_text(json.dumps(stored))
    before = file.read_bytes()
    try:
        config = runs.load(tmp_path).config
    except UserError as error:
        assert field in str(error) and "\n" not in str(error)
    else:
        found = getattr(config, field)
        assert (list(found) if isinstance(found, tuple) else str(found) if isinstance(found, Path) else found) == value
    assert file.read_bytes() == before


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        runs.load(tmp_path)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from grfd import runs\nwith runs.locked(Path({str(tmp_path)!r})): print('in')"
    with runs.locked(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is at work" in second.stderr and not second.stdout
    third = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert third.stdout == "in\n"


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their bytes, and folders."""
    return {str(each.relative_to(folder)): each.read_bytes() if each.is_file() else None for each in folder.rglob("*")}


def test_what_a_kill_left_is_removed_from_a_run_and_nothing_else(tmp_path: Path) -> None:
    runs.create(tmp_path, Config())
    for folder in (tmp_path, tmp_path / "records", tmp_path / "another"):
        folder.mkdir(exist_ok=True)
        for name in (".a.npz.grfd-partial", "a.npz.tmp", "a.grfd-partial", ".grfd-partial.txt"):
            (folder / name).write_text("half")
    (tmp_path / "another" / "config.json").write_text("of a run that another process may write")
    (tmp_path / ".folder.grfd-partial").mkdir()
    (tmp_path / ".link.grfd-partial").symlink_to("a.npz.tmp")
    before = contents(tmp_path)
    with runs.locked(tmp_path):
        pass
    removed = before.keys() - contents(tmp_path).keys()
    assert removed == {".a.npz.grfd-partial", "records/.a.npz.grfd-partial"}


@pytest.mark.parametrize("name", ["thesis.tmp", "config.json", ".config.json.bak", "sub/.a.grfd-partial"])
def test_a_refused_folder_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"name": "somebody else\'s"}')
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"holds no run|cannot be read as a run's configuration"), runs.locked(tmp_path):
        pytest.fail("a folder of somebody else was taken")
    assert contents(tmp_path) == before


def test_a_run_of_another_configuration_is_left_as_it_was(tmp_path: Path) -> None:
    runs.create(tmp_path, Config())
    (tmp_path / ".a.npz.grfd-partial").write_text("half")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="another configuration"), runs.locked(tmp_path):
        runs.create(tmp_path, Config(gamma=0.5))
    assert contents(tmp_path) == before


def test_a_mistake_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a mistake"), runs.locked(tmp_path / "a" / "b"):
        raise UserError("a mistake")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_kill_left_empty_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.grfd-partial").write_text("half")
    with runs.locked(tmp_path):
        runs.create(tmp_path, Config())
    assert contents(tmp_path).keys() == {".lock", "config.json"}


LONG = "n" * 300


@pytest.mark.parametrize(
    "name", [LONG, f"{LONG}/run", "file/run", "file", "a\0b", "folder/.lock/x", "link"], ids=lambda name: name[:8]
)
def test_a_path_that_cannot_be_a_run_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".lock").touch()
    (tmp_path / "link").symlink_to("link")
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught, runs.locked(tmp_path / name):
        runs.create(tmp_path / name, Config())
    assert "\n" not in str(caught.value)
    assert sorted(str(each) for each in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["x" * 255, "y" * 240, "ü" * 127])
def test_the_longest_names_are_written(tmp_path: Path, name: str) -> None:
    runs.write_bytes(tmp_path / name, b"content")
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("target", [LONG, "file/x.npz", "", "folder", "a\0b"], ids=lambda name: name[:8])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"^cannot write .*[^\n]$"):
        runs.write_bytes(tmp_path / target, b"content")
    assert contents(tmp_path) == before


def test_a_link_of_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".a.json.grfd-partial").symlink_to("mine")
    runs.write_bytes(tmp_path / "a.json", b"content")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "a.json").read_bytes() == b"content"


def remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


def remove_what_a_shell_names(folder: Path) -> None:
    (folder / "config.json").unlink()


def replace(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("copy"))
    folder.rename(folder.with_name("moved"))
    folder.with_name("copy").rename(folder)


@pytest.mark.parametrize("how", [remove_all, remove_what_a_shell_names, replace])
def test_a_folder_that_is_lost_meanwhile_is_not_remade(tmp_path: Path, how: Callable[[Path], None]) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="was removed or replaced"), runs.locked(folder):
        runs.create(folder, Config())
        how(folder)
        runs.write_bytes(folder / "checkpoints" / "a.safetensors", b"weights")
    assert not (folder / "checkpoints").exists()
    assert (folder / "config.json").exists() == (how is replace)


def test_a_folder_that_is_lost_after_the_last_file_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was removed or replaced"), runs.locked(tmp_path / "run"):
        runs.create(tmp_path / "run", Config())
        shutil.rmtree(tmp_path / "run")


def test_other_images_are_refused(tmp_path: Path) -> None:
    images, labels = torch.rand(4, 1, 2, 2), torch.arange(4)
    begun = {"train": runs.images_of(images, labels), "test": runs.images_of(images, labels)}
    runs.create(tmp_path / "run", Config(), begun)
    assert runs.recorded_images(tmp_path / "run") == begun
    runs.create(tmp_path / "run", Config(), begun)
    for changed in (runs.images_of(1 - images, labels), runs.images_of(images, labels.flip(0))):
        for split in ("train", "test"):
            with pytest.raises(UserError, match=f"other images: those of the {split} split"):
                runs.create(tmp_path / "run", Config(), begun | {split: changed})


def test_a_run_of_an_older_version_does_not_say_its_images(tmp_path: Path) -> None:
    runs.create(tmp_path / "run", Config())
    assert runs.recorded_images(tmp_path / "run") == {}
    runs.create(tmp_path / "run", Config(), {"train": "any"})


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results.json"
    runs.write_json(file, {"old": True})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"no disk space left to write .*results\.json"):
        runs.write_json(file, {"new": True})
    assert file.read_text() == '{\n  "old": true\n}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_provenance_names_versions_and_machine() -> None:
    found = runs.provenance()
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
