"""What may happen to a run folder between two commands, and during one."""

import os
import random
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grfd import runs
from grfd.api import fitting as api
from grfd.api.job import Own
from grfd.config import Config
from grfd.data.record import Data, Split, from_tensors
from grfd.defenses import DEFENSES, standard
from grfd.errors import UserError
from grfd.method import stages

IMAGES = torch.rand(24, 1, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3
DATA = from_tensors(IMAGES, LABELS, IMAGES[:9], LABELS[:9])
CONFIG = Config(data="tensors", epochs=1, classifier_epochs=1, batch=8, latent=4, device="cpu")


class Network(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(144, 3))


def train(out: Path, data: Data = DATA, config: Config = CONFIG) -> runs.Run:
    return api.train_run(out, config, Own(data, Network))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train(out)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_a_finished_run_is_left_as_it_is(run: Path) -> None:
    before = contents(run)
    train(run)
    assert contents(run) == before


def inverted(split: Split) -> Split:
    return Split(1 - split.images, split.labels)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_training_is_not_continued_on_other_images(run: Path, split: str) -> None:
    (run / "target.safetensors").unlink()
    before = contents(run)
    changed = replace(DATA, **{split: inverted(getattr(DATA, split))})
    with pytest.raises(UserError, match=f"holds a run of other images: those of the {split} split have changed"):
        train(run, changed)
    with pytest.raises(UserError, match=f"those of the {split} split have changed"):
        api.fit_run("bit-depth", run, CONFIG, DEFENSES["bit-depth"].Recipe(), Own(changed, Network))
    assert contents(run) == before


def test_images_that_are_not_trained_on_may_change(tmp_path: Path) -> None:
    config = replace(CONFIG, train_examples=12)
    with runs.locked(tmp_path / "run"):
        api.prepare(tmp_path / "run", config, Own(DATA, Network))
    more = Split(torch.cat([IMAGES[:12], 1 - IMAGES[12:]]), LABELS)
    api.prepare(tmp_path / "run", config, Own(replace(DATA, train=more), Network))


FILES = ["standard", "lvcvae", "rsm", "target", "second-standard"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "cut", "folder", "another"])
def test_damaged_weights_of_a_finished_stage_are_one_line(run: Path, name: str, damage: str) -> None:
    file = run / f"{name}.safetensors"
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        other = (run / ("rsm" if name == "lvcvae" else "lvcvae")).with_suffix(".safetensors").read_bytes()
        file.write_bytes({"empty": b"", "cut": content[:-5], "another": other}[damage])
    before = contents(run)
    with pytest.raises(UserError, match=rf"{name}\.safetensors[^\n]*$"):
        train(run)
    assert contents(run) == before


@pytest.mark.parametrize("what", ["weights", "fewer", "other labels"])
def test_a_robust_data_set_that_is_none_is_one_line(run: Path, what: str) -> None:
    (run / "target.safetensors").unlink()
    (run / "checkpoints" / "stage-three.safetensors").unlink()
    file = run / "robust.safetensors"
    stored = runs.read_tensors(file)
    changed: dict[str, dict[str, Tensor]] = {
        "weights": {"weight": torch.zeros(3)},
        "fewer": {name: tensor[:5] for name, tensor in stored.items()},
        "other labels": stored | {"labels": stored["labels"].flip(0)},
    }
    runs.write_tensors(file, changed[what])
    with pytest.raises(UserError, match=r"robust\.safetensors (fits another network|has other labels)"):
        train(run)


def test_garbage_in_the_metrics_does_not_stop_a_run(run: Path) -> None:
    (run / "target.safetensors").unlink()
    (run / "checkpoints" / "stage-three.safetensors").unlink()
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"stage": "stage-thr\n\n\xff')
    train(run)
    assert b'{"stage": "stage-thr\n\n\xff\n' in (run / "metrics.jsonl").read_bytes()
    assert (run / "target.safetensors").exists()


@pytest.mark.parametrize("removed", ["everything", "what a shell's * names"])
def test_a_run_that_is_removed_during_its_training_is_not_remade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    out = tmp_path / "run"
    real = standard.fit

    def fit_and_remove(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        for each in out.iterdir():
            if removed == "everything" or not each.name.startswith("."):
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    monkeypatch.setattr(standard, "fit", fit_and_remove)
    with pytest.raises(UserError, match="run was removed or replaced while grfd worked in it"):
        train(out)
    assert not out.exists()
    monkeypatch.undo()
    train(out)


def test_a_latent_beyond_the_memory_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grfd.memory.available", lambda device: 20 * 2**30)  # 18.3 of them are for the weights
    wide = torch.rand(6, 3, 64, 64)
    data = from_tensors(wide, LABELS[:6], wide, LABELS[:6])

    class Wide(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(3 * 64 * 64, 3))

    config = replace(CONFIG, latent=100_000)
    with pytest.raises(UserError, match=r"the LVCVAE with latent 100000 has [\d,]+ parameters: .* are available"):
        api.train_run(tmp_path / "run", config, Own(data, Wide))
    with pytest.raises(UserError, match="the LVCVAE with latent 100000"):
        stages.check_generator(config, data)
    assert list(tmp_path.iterdir()) == []


def test_images_that_no_generator_takes_are_refused_before_any_training(tmp_path: Path) -> None:
    small = IMAGES[:, :, :3, :3]
    data = from_tensors(small, LABELS, small, LABELS)
    with pytest.raises(UserError, match="LVCVAE: "):
        api.train_run(tmp_path / "run", CONFIG, Own(data, lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 3))))
    assert list(tmp_path.iterdir()) == []


def test_training_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    others = (dict(os.environ), list(warnings.filters), torch.get_num_threads())
    with torch.no_grad():
        train(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1]) and random.getstate() == states[2]
    assert others == (dict(os.environ), list(warnings.filters), torch.get_num_threads())
