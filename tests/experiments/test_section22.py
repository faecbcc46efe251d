"""The section on the cited defenses follows from records: the table, a verdict on each defense, and the figure."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from grfd.defenses import DEFENSES
from grfd.evaluation.crafting import LabelledImages
from grfd.evaluation.records import Record, path_of, write_record
from grfd.experiments.section22 import cells, draw, section
from grfd.experiments.section22.generators import _attacked, success_over_steps
from grfd.experiments.section22.page_section import brief_sheet, defenses_sheet
from grfd.report.sheets import printed

IMAGES = 200


def record(right: int) -> Record:
    """`IMAGES` images of class 1, of which `right` withstand."""
    columns = {
        "index": np.arange(IMAGES),
        "label": np.ones(IMAGES, dtype=np.int64),
        "clean_prediction": np.ones(IMAGES, dtype=np.int64),
        "adversarial_prediction": (np.arange(IMAGES) < right).astype(np.int64),
        "norm": np.full(IMAGES, 0.1, dtype=np.float32),
        "queries": np.ones(IMAGES, dtype=np.float32),
    }
    return Record(columns, {"attack": {"eps": 0.1}, "transfer": {}})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "section22/short-seed-0"
    for model, pgd, a3 in (("standard", 110, 100), ("jpeg", 105, 102), ("feature-scattering", 190, 170),
                           ("distillation", 60, 40)):  # fmt: skip
        for protocol in ("whitebox", "adaptive"):
            write_record(path_of(folder, model, protocol, "pgd"), record(pgd))
            write_record(path_of(folder, model, protocol, "a3"), record(a3))
    config = {"config": {"data": "mnist", "model": "lenet5", "epochs": 3, "train_examples": 20_000}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps({"rows": [], "checks": []}))
    (folder / "times.json").write_text(json.dumps({"jpeg": {"fit_seconds": 90.0, "answer_milliseconds": 0.25}}))
    return tmp_path


def test_each_defense_has_a_line_and_a_verdict(results: Path) -> None:
    text = "\n\n".join(section(results))
    assert "20,000 training images, one seed" in text
    line = next(line for line in text.splitlines() if line.startswith("| JPEG "))
    assert "| 52.5 [46, 59] | 51.0 [44, 58] |" in line and line.endswith("| 200 | 1.5 | 0.25 |")
    assert "- **JPEG** is as weak as no defense, within the interval: +1.0" in text
    assert "- **feature scattering** keeps more than no defense: +35.0" in text
    assert "- **distillation** is weaker than no defense: -30.0" in text
    assert "51.0 % are left by A3." in text and f"Literature: {DEFENSES['jpeg'].LITERATURE}" in text


def test_success_is_counted_among_the_images_that_were_right() -> None:
    """Linear: after s steps the first s images are pushed to the other side."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]))
    images = torch.tensor([1.0, 1.0, 1.0, -1.0]).view(4, 1, 1, 1)
    labels, right = torch.ones(4, dtype=torch.long), torch.tensor([True, True, True, False])

    def attack(steps: int) -> torch.Tensor:
        return torch.where(torch.arange(4)[:, None, None, None] < steps, -images, images)

    assert success_over_steps(attack, model, labels, right, (0, 1, 3)) == pytest.approx([0, 1 / 3, 1])


def test_the_table_fits_a_terminal(results: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    sheet = brief_sheet(defenses_sheet([results / "section22/short-seed-0"], {}))
    console.print(printed(sheet))
    text = console.export_text()
    assert "…" not in text and "51.0 [44, 58]" in text and "JPEG" in text


def test_the_figure_is_drawn(results: Path, tmp_path: Path) -> None:
    drawn = draw(results, tmp_path)
    assert [path.name for path in drawn] == ["defenses.png", "defenses.pdf"]
    assert drawn[0].stat().st_size > 5_000


def test_every_cited_defense_is_in_the_plan(tmp_path: Path) -> None:
    for scale in ("short", "cifar10-small"):
        names = [cell.name for cell in cells(tmp_path, scale, 1)]
        for defense in ("jpeg", "guided-denoiser", "distillation", "feature-scattering", "trs", "bayesian",
                        "robust-components", "total-variation", "crop-rescale", "magnet"):  # fmt: skip
            assert f"seed 0: fit {defense}" in names
        assert names[-1] == "seed 0: time" and len(set(names)) == len(names)


def test_nothing_is_written_without_records(tmp_path: Path) -> None:
    assert section(tmp_path) == [] and draw(tmp_path, tmp_path) == []


@pytest.mark.parametrize("name", ["advgan", "se_advgan"])
def test_both_generators_are_run_as_the_experiment_runs_them(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    examples = LabelledImages(torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.long))
    found = _attacked(name, examples, model, {"eps": 0.1}, 3)
    assert found.shape == examples.images.shape and (found - examples.images).abs().max() <= 0.1 + 1e-6
