"""GRFD free beside its control and its baselines: all cells of a small scale, its tables and its section."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from grfd.config import Config
from grfd.evaluation import checks, probes
from grfd.experiments import cells, free
from grfd.experiments.free import bottleneck, contenders
from grfd.experiments.free.bottleneck import AROUND, BOTTLENECK_FILE
from grfd.experiments.robust.contenders import gradients
from grfd.experiments.robust.numbers import JUDGED

TINY = replace(
    contenders.FREE_SCALES["quick"],
    config=Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"),
    examples=12,
    attacks=("fgsm",),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run of all cells."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contenders.FREE_SCALES, "quick", TINY)
        patch.setattr(checks, "PROBES", dict(list(probes.PROBES.items())[:1]))
        patch.setattr(bottleneck, "_QUERIES", 30)
        todo = free.cells(out, "quick", 1)
        cells.run(todo)
        assert all(cell.done() for cell in todo)
        yield out


def test_free_its_control_and_a_baseline_are_compared(done: Path) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    for part in free.show(done, "quick", 1):
        console.print(part)
    said = console.export_text()
    assert "free" in said and "control" in said and "cure" in said
    assert (done / "free.csv").exists() and (done / "free-paired.md").exists() and (done / "free.png").exists()


def test_the_section_has_the_comparison_and_the_attacks_around_the_bottleneck(done: Path, tmp_path: Path) -> None:
    kept = tmp_path / "results/free/short-seed-0" / JUDGED
    shutil.copytree(done / "quick-seed-0" / JUDGED, kept)
    section = "\n".join(free.section(tmp_path / "results"))
    assert "On MNIST" in section and "Masking checks:" in section
    assert all(title in section for title, _ in AROUND.values())
    (kept / BOTTLENECK_FILE).unlink()
    assert "bottleneck" not in "\n".join(free.section(tmp_path / "results"))
    assert free.draw(tmp_path / "results", tmp_path)[0].name == "free.png"


def test_the_section_has_the_search_on_training_images(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "quick-seed-0" / JUDGED, tmp_path / "results/free/search-seed-0" / JUDGED)
    section = "\n".join(free.section(tmp_path / "results"))
    assert "Which settings matter" in section and "300 training images" in section and "| cure |" in section


def test_each_trial_of_the_search_changes_one_setting() -> None:
    scale = contenders.FREE_SCALES["search"]
    base = scale.contenders["free"]
    spent = {name: gradients(each, scale.config) for name, each in scale.contenders.items()}
    for name, each in scale.contenders.items():
        if each.group == contenders.VARIED:
            changed = {**each.changes, **{field: value for field, value in each.recipe.items() if field != "epochs"}}
            # the curvature is another unit, so its weight changes with it
            assert len(changed) == 1 or name == "free-curvature"
            assert each.recipe["epochs"] == base.recipe["epochs"]
        if each.group == "baseline":
            assert spent["free"] <= spent[name] + 3 and spent[name] <= 1.2 * spent["free"]
    assert scale.validation and len(set(map(repr, scale.contenders.values()))) == len(scale.contenders)


def test_without_records_there_is_no_section(tmp_path: Path) -> None:
    assert free.section(tmp_path) == [] and free.draw(tmp_path, tmp_path) == []
