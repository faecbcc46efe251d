"""The search for the paper's None row: cells that stay done, and rows beside the paper's."""

from pathlib import Path

import pytest

from grfd.config import Config
from grfd.experiments import cells, none_row
from grfd.experiments.none_row import RECIPES, _paper_row, distance_to_paper, recipe_of_slug, recipe_slug

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
    (tmp_path / "results/none-row").mkdir(parents=True)
    (tmp_path / "quick-seed-0").rename(tmp_path / "results/none-row/paper-seed-0")
    section = none_row.section(tmp_path / "results")
    assert "| batch 64, seed 0 |" in section[2] and "| paper | 99.2 |" in section[2]


def test_the_distance_is_the_largest_over_the_attacks() -> None:
    row = _paper_row() | {"none": 0.0, "pgd": _paper_row()["pgd"] - 3, "fgsm": _paper_row()["fgsm"] + 5}
    assert distance_to_paper(row) == pytest.approx(5)


def test_the_name_of_a_folder_leads_back_to_its_recipe() -> None:
    assert [recipe_of_slug(recipe_slug(recipe)) for recipe in RECIPES] == list(RECIPES)
