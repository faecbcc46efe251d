"""The RSM in F's place: both stages I, every ε, what is done stays done, and the page's section."""

import json
from pathlib import Path

import pytest

from grfd.config import Config
from grfd.experiments import cells, rsm
from grfd.experiments import rsm_section as report
from grfd.experiments.variants import Schedule

TINY = Schedule(
    Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"), 6, ("fgsm",)
)


def test_both_stages_are_attacked_at_every_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_probe: None
) -> None:
    monkeypatch.setitem(rsm.SCHEDULES, "quick", TINY)
    for module in (rsm, report):
        monkeypatch.setattr(module, "EPSILONS", (0.1, 0.5))
    todo = rsm.cells(tmp_path, "quick", 1)
    assert [cell.name for cell in todo][3:] == ["seed 0: attacks at ε = 0.1", "seed 0: attacks at ε = 0.5"]
    cells.run(todo)
    assert all(cell.done() for cell in todo)
    sheet = report.rsm_sheet([rsm.folder_of(tmp_path, "quick", 0)])
    assert [row[:2] for row in sheet.rows][:2] == [["standard", "0.1"], ["standard", "0.5"]] and len(sheet.rows) == 10
    used = json.loads((tmp_path / "quick-seed-0" / "eps-0.5" / "evaluation.json").read_text())
    assert "rsm-margin" in used["weights"] and "second-standard" not in used["weights"]
    assert report.section(tmp_path) == []
    (tmp_path / "quick-seed-0").rename(tmp_path / f"{report.FOLDERS}-0")
    for weights in (tmp_path / f"{report.FOLDERS}-0").glob("*/*.safetensors"):
        weights.unlink()
    (tmp_path / f"{report.FOLDERS}-0").rename(rsm.folder_of(tmp_path, "quick", 0))
    assert all(cell.done() for cell in todo)  # as a copy in results/ is, which has the records alone
    rsm.folder_of(tmp_path, "quick", 0).rename(tmp_path / f"{report.FOLDERS}-0")
    said = "\n".join(report.section(tmp_path))
    assert "RSM, stage I over CE | 0.5" in said and "Masking flags" in said
    courses = report.course_sheet([tmp_path / f"{report.FOLDERS}-0"])  # of the one epoch
    assert courses.rows[0][0] == "1" and all(float(value) for value in courses.rows[0][1:]) and len(courses.rows) == 1
