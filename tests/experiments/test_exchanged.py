"""The paper's variants with the parts exchanged: trained, judged, shown beside the published ones, and on the page."""

import shutil
from pathlib import Path

import pytest
from command import ONE_PROBE
from rich.table import Table

from grfd.config import Config
from grfd.evaluation import checks
from grfd.experiments import cells as running
from grfd.experiments import exchanged, fig2
from grfd.experiments.variants import Schedule
from grfd.runs import load

TINY = Schedule(Config(epochs=1, classifier_epochs=1, train_examples=200, latent=8, device="cpu"), 8, ("fgsm",))
ONE_ROW = {row: exchanged._ROWS[row] for row in [(0.6, 0.4, 0.2)]}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cells with one row of Table 2, done once."""
    folder = tmp_path_factory.mktemp("exchanged")
    with pytest.MonkeyPatch.context() as patched:
        _tiny(patched)
        running.run(exchanged.cells(folder, "short", 1))
    return folder


def _tiny(patched: pytest.MonkeyPatch) -> None:
    patched.setitem(exchanged._SCHEDULES, "short", TINY)
    patched.setattr(checks, "PROBES", {ONE_PROBE: checks.PROBES[ONE_PROBE]})
    patched.setattr(exchanged, "_ROWS", ONE_ROW)
    patched.setattr(exchanged, "_CASES", {"3: no rectification": {"epsilon": 0.0}})
    patched.setattr(exchanged, "_SHARES", (50, 100))
    for name, count in (("_PROBED", 100), ("_PLOTTED", 60)):
        patched.setattr(fig2, name, count)


def test_each_variant_is_trained_with_either_part_and_judged(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tiny(monkeypatch)
    trained = [each.parent for each in out.glob("short-seed-0/*/target.safetensors")]
    parts = [load(each).config.robust_part for each in trained]
    assert parts.count("residual") == parts.count("reconstruction") == 3  # one row, one case, half of the images
    shown = exchanged.show(out, "short", 1)
    tables = [each for each in shown if isinstance(each, Table)]
    assert [table.title for table in tables] == ["Table 2", "Figure 4a", "Figure 4b", "Figure 2"]
    assert all("–" not in str(cell) for table in tables for column in table.columns for cell in column.cells)
    assert (out / "exchanged.png").stat().st_size > 5_000


def test_the_page_shows_both_parts_beside_each_other(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tiny(monkeypatch)
    shutil.copytree(out, tmp_path / "exchanged")
    parts = exchanged.section(tmp_path)
    (table,) = [part for part in parts if "| ε |" in part]
    assert table.splitlines()[2].startswith("| 0.6 | 0.4 | 0.2 | 93.")
    assert sum("F receives G(x): " in part for part in parts) == 1
    assert {file.name for file in exchanged.draw(tmp_path, tmp_path)} == {
        "exchanged.png", "exchanged.pdf", "exchanged-fig3.png", "exchanged-fig3.pdf"
    }  # fmt: skip
    assert exchanged.section(tmp_path / "nothing") == []


def test_nothing_is_done_twice(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tiny(monkeypatch)
    assert all(cell.done() for cell in exchanged.cells(out, "short", 1))
