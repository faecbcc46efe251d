"""The RSM in F's place: both stages I, every ε, what is done stays done, and the page's section."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ONE_PROBE

from grfd.config import Config
from grfd.evaluation import checks
from grfd.experiments import cells, rsm
from grfd.experiments.variants import Schedule

TINY = Schedule(
    Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"), 6, ("fgsm",)
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run of all cells at two ε."""
    folder = tmp_path_factory.mktemp("rsm")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(rsm._SCHEDULES, "quick", TINY)
        patched.setattr(rsm, "_EPSILONS", (0.1, 0.5))
        patched.setattr(checks, "PROBES", {ONE_PROBE: checks.PROBES[ONE_PROBE]})
        todo = rsm.cells(folder, "quick", 1)
        assert [cell.name for cell in todo][3:] == ["seed 0: attacks at ε = 0.1", "seed 0: attacks at ε = 0.5"]
        cells.run(todo)
        assert all(cell.done() for cell in todo)
        yield folder


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy of it, of its only seed."""
    return Path(shutil.copytree(done / "quick-seed-0", tmp_path / "quick-seed-0"))


def test_both_stages_are_attacked_at_every_epsilon(run: Path, tmp_path: Path) -> None:
    sheet = rsm.rsm_sheet([run])
    assert [row[:2] for row in sheet.rows][:2] == [["standard", "0.1"], ["standard", "0.5"]] and len(sheet.rows) == 10
    used = json.loads((run / "eps-0.5" / "evaluation.json").read_text())
    assert "rsm-margin" in used["weights"] and "second-standard" not in used["weights"]
    for weights in run.glob("*/*.safetensors"):
        weights.unlink()
    assert all(cell.done() for cell in rsm.cells(tmp_path, "quick", 1))  # results/ has the records alone


def test_the_page_has_the_table_the_flags_and_the_course(run: Path, tmp_path: Path) -> None:
    assert rsm.section(tmp_path) == []
    shutil.copytree(run, tmp_path / "rsm/short-seed-0")
    paragraphs = "\n".join(rsm.section(tmp_path))
    assert "RSM, stage I over CE | 0.5" in paragraphs and "Masking checks that are flagged" in paragraphs
    course = rsm._course_sheet([run])  # of the one epoch
    assert course.rows[0][0] == "1" and all(float(value) for value in course.rows[0][1:]) and len(course.rows) == 1
