import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

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
        runs.create(tmp_path, replace(Config(), gamma=0.5))


def test_images_that_have_moved_need_one_edit(tmp_path: Path) -> None:
    runs.create(tmp_path, Config(data_dir=Path("old")))
    moved = Config(data_dir=Path("new"))
    with pytest.raises(UserError, match=r"data_dir old → new.*where the same images have moved, change data_dir in"):
        runs.create(tmp_path, moved)
    with pytest.raises(UserError, match=r"choose another folder$"):
        runs.create(tmp_path, replace(moved, gamma=0.5))
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"old"', '"new"'))
    assert runs.create(tmp_path, moved).config == moved


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="not empty and holds no run"):
        runs.create(tmp_path, Config())
    assert (tmp_path / "thesis.tex").read_text() == "important"


@pytest.mark.parametrize("content", ["{", '{"config": {"alpha": [1]}}', '{"config": {"no_such_field": 1}}'])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        runs.load(tmp_path)


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


def test_the_lock_clears_what_a_kill_left(tmp_path: Path) -> None:
    (tmp_path / "target.safetensors.tmp").write_bytes(b"half")
    with runs.locked(tmp_path):
        assert not (tmp_path / "target.safetensors.tmp").exists()


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


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    runs.write_tensors(tmp_path / "w.safetensors", torch.nn.Linear(3, 2).state_dict())
    with pytest.raises(UserError, match=r"expected weight of \(2, 4\), found \(2, 3\)"):
        runs.load_weights(torch.nn.Linear(4, 2), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="it also holds bias"):
        runs.load_weights(torch.nn.Linear(3, 2, bias=False), tmp_path / "w.safetensors")


def test_a_truncated_weight_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    runs.write_tensors(file, torch.nn.Linear(3, 2).state_dict())
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"w\.safetensors is no whole safetensors file"):
        runs.read_tensors(file)


def test_provenance_names_versions_and_machine() -> None:
    found = runs.provenance()
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
