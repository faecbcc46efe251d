import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from grfd.errors import UserError
from grfd.evaluation import records
from grfd.evaluation.case import CONTROL
from grfd.evaluation.checks import on_records
from grfd.evaluation.numbers import grid, of_one_threat, rows
from grfd.evaluation.probes import PROBES
from grfd.evaluation.records import Record, each_read_once
from grfd.evaluation.results import Row
from grfd.evaluation.stored import read_results
from grfd.evaluation.threat_rows import threat_rows
from grfd.experiments import EXPERIMENTS
from grfd.experiments.cells import Cell
from grfd.experiments.free.readme_table import free_sheet
from grfd.experiments.page import page, write_page
from grfd.experiments.robust import numbers as robust_page
from grfd.report import sheets
from grfd.report.sheets import markdown
from grfd.report.table import results_table

RESULTS = Path(__file__).parents[2] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "reproduction.md"
README = Path(__file__).parents[2] / "README.md"


def record(robust: list[int], clean: int = 4) -> Record:
    """Four examples of class 1; `clean` of them right before the attack, those of `robust` after it."""
    columns = {
        "index": np.arange(4),
        "label": np.ones(4, dtype=np.int64),
        "clean_prediction": (np.arange(4) < clean).astype(np.int64),
        "adversarial_prediction": np.isin(np.arange(4), robust).astype(np.int64),
        "norm": np.full(4, 0.1, dtype=np.float32),
        "queries": np.ones(4, dtype=np.float32),
    }
    return Record(columns, {"attack": {"eps": 0.1}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for attack, robust in (("fgsm", [0, 1, 2]), ("pgd", [1, 2, 3])):
        records.write_record(records.path_of(tmp_path, "grfd", "whitebox", attack), record(robust))
    return tmp_path


def test_a_users_own_attack_has_a_column(folder: Path) -> None:
    records.write_record(records.path_of(folder, "grfd", "whitebox", "mine:darker"), record([2, 3]))
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(results_table(rows(folder), {}))
    printed = console.export_text()
    assert "mine:" in printed and "darker" in printed and "50.0" in printed


def test_rows_are_clean_each_attack_and_worst(folder: Path) -> None:
    assert rows(folder) == [
        Row("grfd", "whitebox", "none", 4, 1.0),
        Row("grfd", "whitebox", "fgsm", 4, 0.75),
        Row("grfd", "whitebox", "pgd", 4, 0.75),
        Row("grfd", "whitebox", "worst", 4, 0.5),
    ]


def test_an_image_that_is_wrong_before_the_attack_is_not_robust(tmp_path: Path) -> None:
    records.write_record(records.path_of(tmp_path, "grfd", "whitebox", "pgd"), record([0, 1, 2, 3], clean=2))
    assert [row.accuracy for row in rows(tmp_path)] == [0.5, 0.5, 0.5]


def test_the_printed_table_fits_eighty_columns_and_names_the_protocol(folder: Path) -> None:
    for model in ("second-standard", "standard"):
        for attack in ("fgsm", "pgd", "aa", "eotpgd", "vmifgsm"):
            records.write_record(records.path_of(folder, model, "transfer", attack), record([0, 1], clean=3))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(results_table(rows(folder), {"GRFD (paper)": {"none": 98.82}}))
    text = console.export_text()
    assert (
        "whitebox" in text
        and "2nd" in text
        and "standard" in text
        and "75.0" in text
        and "50.0" in text
        and "…" not in text
    )


def test_no_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no evaluated run"):
        page(tmp_path)


def test_the_committed_page_is_derived_from_the_committed_records() -> None:
    assert PAGE.read_text() == page(RESULTS)


def test_the_readmes_table_is_derived_from_the_committed_records() -> None:
    folders = sorted((RESULTS / "robust").glob("short-seed-*/judged"))
    assert markdown(robust_page.short_sheet(robust_page.with_most_attacks(folders))) in README.read_text()
    without_examples = sorted((RESULTS / "free").glob("short-seed-*/judged"))
    assert markdown(free_sheet(without_examples)) in README.read_text()


def test_a_terminal_of_eighty_columns_shows_every_contender_whole() -> None:
    folders = sorted((RESULTS / "robust").glob("short-seed-*/judged"))
    for sheet in (robust_page.robust_sheet(folders), robust_page.paired_sheet(folders)):
        brief = robust_page.in_brief(sheet)
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(sheets.printed(brief))
        text = console.export_text()
        assert "…" not in text and all(word in text for row in brief.rows for cell in row for word in cell.split())


def test_committed_results_follow_from_committed_records() -> None:
    runs = sorted(RESULTS.rglob("results.json"))
    assert runs
    for file in runs:
        _results_follow(file)


def _results_follow(file: Path) -> None:
    with each_read_once():
        found = read_results(file.parent)
        assert json.loads(file.read_text()) == found.to_json()
        assert found.rows == (*rows(file.parent), *threat_rows(file.parent))
        # all models met the same probes, and their comparisons of records are those that the records make
        models = {row.model for row in found.rows} - {CONTROL}
        probed = {model: {each.name for each in found.checks if each.model == model} for model in models}
        compared = [each for each in found.checks if each.name not in PROBES]
        assert len({frozenset(names & PROBES.keys()) for names in probed.values()}) == 1, file
        assert all(names & PROBES.keys() for names in probed.values()), file
        derived = [check for model in models for check in on_records(file.parent, model)]
        assert sorted(map(str, compared)) == sorted(map(str, derived)), file


def test_no_committed_worst_case_is_above_an_attack_of_its_line() -> None:
    """In Table 3 the attacks met unequal numbers of images, and until November 2026 some worst cases were."""
    unequal = 0
    for file in RESULTS.rglob("results.json"):
        for line in grid([row for row in read_results(file.parent).rows if row.norm is None]).values():
            attacks = of_one_threat([name for name in line if name not in ("none", "worst")])
            unequal += len({line[name].examples for name in attacks}) > 1
            assert line["worst"].accuracy <= min(line[name].accuracy for name in attacks), (file, line["worst"])
    assert unequal


class _Dummy:
    """An experiment that somebody adds: what the registry asks for, and a figure."""

    SCALES = ("quick",)
    FOLDER = "dummy"

    def cells(self, out: Path, scale: str, seeds: int) -> list[Cell]:
        return []

    def show(self, out: Path, scale: str, seeds: int) -> list[Table | str]:
        return []

    def section(self, results: Path) -> list[str]:
        return ["## An opening that two experiments share", "### A dummy"]

    def draw(self, results: Path, docs: Path) -> list[Path]:
        (docs / "dummy.png").write_bytes(b"a picture")
        return [docs / "dummy.png"]


def test_an_experiment_of_the_registry_is_on_the_page_with_its_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPERIMENTS, "dummy", _Dummy())
    monkeypatch.setitem(EXPERIMENTS, "second-dummy", _Dummy())
    write_page(tmp_path / "results", tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.count("## An opening that two experiments share") == 1
    assert text.count("### A dummy") == 2 and (tmp_path / "dummy.png").exists()
