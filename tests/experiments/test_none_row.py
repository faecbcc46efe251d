"""The search for the paper's None row: cells that stay done, and rows beside the paper's."""

from pathlib import Path

import pytest

from grfd.config import Config
from grfd.experiments import cells, none_row
from grfd.experiments.none_row_section import distance, published, section

TINY = Config(classifier_epochs=1, train_examples=200, device="cpu")


def test_it_trains_attacks_and_sets_beside_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_probe: None
) -> None:
    monkeypatch.setitem(none_row._PARTS, "quick", (("the preset's", "batch 64"), 4, TINY))
    todo = none_row.cells(tmp_path, "quick", 1)
    assert [cell.name for cell in todo] == ["seed 0: the preset's", "seed 0: batch 64"]
    cells.run(todo)
    assert all(cell.done() for cell in todo)
    table, _ = none_row.show(tmp_path, "quick", 1)
    assert table.row_count == 3
    sections = section(tmp_path)
    assert "| batch 64, seed 0 |" in sections[2] and "| paper | 99.2 |" in sections[2]


def test_the_distance_is_the_largest_over_the_attacks() -> None:
    row = published() | {"none": 0.0, "pgd": published()["pgd"] - 3, "fgsm": published()["fgsm"] + 5}
    assert distance(row) == pytest.approx(5)
