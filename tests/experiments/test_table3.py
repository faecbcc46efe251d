"""Table 3 as a command: its cells, what is done stays done, what it prints. On a scale that takes seconds."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import grfd
from grfd.attacks import TABLE_1_ATTACKS
from grfd.commands.reproduce import reproduce_command
from grfd.config import Config
from grfd.errors import UserError
from grfd.evaluation import records
from grfd.experiments import EXPERIMENTS, cells, table3, table_cells
from grfd.experiments.paper import TABLE_3
from grfd.experiments.table3.certificates import RADII, certified_accuracy
from grfd.experiments.table3.scales import TABLE_3_SCALES, TableScale, seed_folder
from grfd.experiments.table_cells import Part

TINY = TableScale(
    config=Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, device="cpu"),
    parts=(
        Part(("standard", "bit-depth", "grfd"), ("fgsm",), 12, later=8),
        Part(("randomized-smoothing",), ("fgsm",), 4),
        Part(("bit-depth",), ("pgd",), 6, protocols=("transfer", "whitebox")),
    ),
    certified=3,
    noises=50,
    recipes={"randomized-smoothing": {"epochs": 1, "votes": 5}},
    seeded=("standard", "bit-depth"),
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, one_probe: None) -> None:
    monkeypatch.setitem(TABLE_3_SCALES, "quick", TINY)
    monkeypatch.setattr(table_cells, "_TIMED", 20)


def printed(parts: list) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


def test_stopped_anywhere_it_goes_on_and_prints_paper_and_ours(tiny: None, tmp_path: Path) -> None:
    todo = table3.cells(tmp_path, "quick", 2)
    names = [cell.name for cell in todo]
    assert "seed 0: fit grfd" in names and "seed 1: fit grfd" not in names and "seed 1: fit bit-depth" in names
    assert "seed 1: fgsm on 2 defenses, 8 images" in names and not any("seed 1: certify" in name for name in names)
    assert "seed 1: pgd on bit-depth, 6 images, transfer and whitebox only" in names
    assert not any(cell.done() for cell in todo)
    cells.run(todo[:3])
    assert [cell.done() for cell in todo[:4]] == [True, True, True, False]
    cells.run(todo)
    kept = {key for key in records.read_records(seed_folder(tmp_path, "quick", 0)) if key[0] == "bit-depth"}
    assert {key[1] for key in kept if key[2] == "pgd"} == {"transfer", "whitebox"}
    assert all(cell.done() for cell in todo)
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    cells.run(table3.cells(tmp_path, "quick", 2))
    assert weights == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    said = printed(table3.show(tmp_path, "quick", 2))
    assert (
        "Seed 1" in said
        and "B-DR" in said
        and "Randomized smoothing, per cent certified" in said
        and "ms an image" in said
    )
    assert "83.4" in said, "the paper's row of R.S. is missing"
    certified, held = certified_accuracy(seed_folder(tmp_path, "quick", 0))
    assert list(certified.values()) == sorted(certified.values(), reverse=True)
    assert list(held) == list(RADII) and held[1.0] <= held[0.0]


def test_the_plan_and_mistakes(tmp_path: Path) -> None:
    said = printed([cells.plan(table3.cells(tmp_path, "paper", 3), {"seed 2: fit trades": 13.04})])
    assert "seed 2: fit trades" in said and "seed 1: fit diffpure" not in said and "to do" in said
    assert "13.0" in said and "not measured" in said
    with pytest.raises(UserError, match="unknown scale 'huge': expected one of quick, paper"):
        cells.check_scale(EXPERIMENTS["table3"], "huge", 1)
    with pytest.raises(UserError, match="seeds must be at least 1"):
        cells.check_scale(EXPERIMENTS["table3"], "quick", 0)
    assert not list(tmp_path.iterdir()) and grfd


PRINTED_MEANS = {
    "mnist": (57.39, 69.91, 74.97, 40.93, 90.22, 88.80, 90.97, 91.76, 93.69),
    "cifar10": (10.76, 45.74, 54.41, 62.17, 65.12, 64.52, 72.34, 73.10, 77.21),
    "cifar100": (5.57, 34.56, 43.66, 47.74, 52.07, 51.20, 58.61, 57.94, 58.91),
}
"""The paper's row "Average", in the order of its columns."""


@pytest.mark.parametrize("dataset", PRINTED_MEANS)
def test_the_paper_s_numbers_are_those_of_its_table(dataset: str) -> None:
    means = [sum(row[name] for name in TABLE_1_ATTACKS) / 5 for row in TABLE_3[dataset].values()]
    assert means == [pytest.approx(mean, abs=0.011) for mean in PRINTED_MEANS[dataset]]


def test_cifar_has_a_scale_of_its_own(tmp_path: Path) -> None:
    todo = table3.cells(tmp_path, "cifar10-small", 2, Path("somewhere"))
    names = [cell.name for cell in todo]
    assert (
        "seed 1: fit grfd" in names and "seed 0: fit pgd-at" in names and not any("certify" in name for name in names)
    )
    assert seed_folder(tmp_path, "cifar10-small", 1) == tmp_path / "cifar10-small-seed-1"
    assert not any(cell.done() for cell in todo)
    with pytest.raises(UserError, match="unknown scale 'cifar10-paper': expected one of quick, paper, cifar10-small"):
        reproduce_command("table3", dataset="cifar10", scale="paper")
