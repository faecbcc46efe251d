"""Experiments on variants of GRFD: trainings that are shared, what is done stays done, sheets and figures of them."""

import io
import json
import shutil
from pathlib import Path

import pytest
from command import ONE_PROBE
from rich.console import Console

from grfd.config import Config
from grfd.evaluation import checks
from grfd.experiments import EXPERIMENTS, cells, fig2, fig3, fig4a, fig4b, readings, table2, variants
from grfd.experiments.minutes import store_minutes
from grfd.experiments.paper import TABLE_2
from grfd.experiments.variant_records import VARIANTS_FILE
from grfd.experiments.variants import Schedule, Variant, variant_name, variants_folder

TINY = Schedule(
    Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"), 6, ("fgsm",)
)
EXPECTED = {"table2", "table3", "fig2", "fig3", "fig4a", "fig4b", "readings", "rsm", "none-row"}


def test_the_list_tells_claim_cost_and_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store_minutes(Path("runs/table3"), "paper", "seed 0: fit standard", 3.2)
    told = dict(zip(EXPERIMENTS, map(cells.paragraph, cells.states(EXPERIMENTS, "paper", 2)), strict=True))
    assert (
        "0 of 26 cells done in runs/variants" in told["table2"]
        and "ε = 0.6, γ = 0.4, δ = 0.2 is best" in told["table2"]
    )
    others = len(EXPERIMENTS["table3"].cells(Path("runs/table3"), "paper", 2)) - 1
    assert f"3 minutes without the {others} cells that were not measured" in told["table3"]
    assert "cost not measured" in told["rsm"]
    assert "grfd reproduce free --scale short --seeds 2" in told["free"], (
        "it has no scale paper, and CIFAR is asked for"
    )


def test_the_list_says_what_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    todo = [cells.Cell("seed 0: a", lambda: True, lambda: None), cells.Cell("seed 0: b", lambda: False, lambda: None)]
    monkeypatch.setattr(EXPERIMENTS["law"], "cells", lambda folder, scale, seeds: todo)
    known = {"law": EXPERIMENTS["law"]}
    assert str(cells.paragraph(*cells.states(known, "short", 1))).rstrip().endswith("# 1 cells remain")
    store_minutes(Path("runs/law"), "short", "seed 0: b", 12.0)
    assert "# 1 cells remain, about 12 minutes" in cells.paragraph(*cells.states(known, "short", 1))
    todo.pop()
    assert "grfd reproduce" not in cells.paragraph(*cells.states(known, "short", 1))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, one_probe: None) -> None:
    monkeypatch.setitem(variants.SCHEDULES, "quick", TINY)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the cells of Figure 4a are done for one seed: the first two, then the others."""
    folder = tmp_path_factory.mktemp("cases")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(variants.SCHEDULES, "quick", TINY)
        patched.setattr(checks, "PROBES", {ONE_PROBE: checks.PROBES[ONE_PROBE]})
        todo = fig4a.cells(folder, "quick", 1)
        cells.run(todo[:2])
        assert [cell.done() for cell in todo] == [True, True, False, False, False]
        cells.run(todo)
    return folder


@pytest.fixture
def own(cases: Path, tmp_path: Path) -> Path:
    """A copy of `cases` to work in."""
    return Path(shutil.copytree(cases, tmp_path / "own"))


def text(parts: list) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


def test_all_are_registered_with_claim_cost_and_command() -> None:
    assert EXPERIMENTS.keys() >= EXPECTED
    for name, experiment in EXPERIMENTS.items():
        told = experiment.__doc__ or ""
        assert all(word in told for word in ("Claim:", "Cost:", "Command:", f"grfd reproduce {name}")), name


def test_cases_are_trained_once_judged_side_by_side_and_shared(tiny: None, own: Path) -> None:
    assert all(cell.done() for cell in fig4a.cells(own, "quick", 1))
    said = text(fig4a.show(own, "quick", 1))
    assert "3: no rectification" in said and (own / "fig4a.pdf").exists()
    rows = (own / "fig4a.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 4 and rows[0].startswith("protocol,case,clean,FGSM,average")
    assert r"\toprule" in (own / "fig4a.tex").read_text()
    shared = [cell for cell in table2.cells(own, "quick", 1) if cell.done()]
    assert [cell.name for cell in shared] == ["seed 0: standard models", "seed 0: train default"]
    others = fig3.cells(own, "quick", 1)
    assert [cell.done() for cell in others] == [True, True, False]
    cells.run(others)
    assert "fig3.png" in text(fig3.show(own, "quick", 1))
    weights = {path: path.stat().st_mtime_ns for path in own.rglob("*.safetensors")}
    cells.run(fig4a.cells(own, "quick", 1))
    assert weights == {path: path.stat().st_mtime_ns for path in own.rglob("*.safetensors")}
    assert not list(own.rglob("robust.safetensors")), "hundreds of megabytes a variant stay on the disk"


def test_records_alone_say_what_is_done(tiny: None, cases: Path, tmp_path: Path) -> None:
    kept = variants_folder(tmp_path / "kept", "quick", 0) / "judged"
    shutil.copytree(variants_folder(cases, "quick", 0) / "judged", kept)
    assert all(cell.done() for cell in fig4a.cells(tmp_path / "kept", "quick", 1))
    shared = [cell.name for cell in table2.cells(tmp_path / "kept", "quick", 1) if cell.done()]
    assert shared == ["seed 0: train default"], "ten rows wait, for which the standard models are needed again"


def test_latent_variables_are_measured_and_drawn(tiny: None, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig2, "_PROBED", 200)
    monkeypatch.setattr(fig2, "_PLOTTED", 120)
    todo = fig2.cells(own, "quick", 1)
    cells.run(todo)
    assert all(cell.done() for cell in todo)
    said = text(fig2.show(own, "quick", 1))
    assert "without it" in said and (own / "fig2.png").stat().st_size > 10_000
    # what was measured is enough: nothing is trained for it again
    judged, kept = (variants_folder(out, "quick", 0) / "judged" for out in (own, own / "kept"))
    kept.mkdir(parents=True)
    shutil.copy(judged / "latents.npz", kept)
    assert all(cell.done() for cell in fig2.cells(own / "kept", "quick", 1))


def test_a_training_that_diverges_is_a_result(tiny: None, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {"as published": {}, "far too fast": {"learning_rate": 1e30}, "RSM": {"deployed": "rsm"}}
    monkeypatch.setattr(readings, "READINGS", some)
    todo = readings.cells(own, "quick", 1)
    assert [cell.name for cell in todo][1:-1] == ["seed 0: train default", "seed 0: train learning_rate-1e+30"]
    cells.run(todo)
    assert all(cell.done() for cell in todo)
    sheet = readings.readings_sheet(variants.read_judged(own, "quick", 1))
    by_label = {row[0]: row for row in sheet.rows}
    assert by_label["far too fast"][-1] == "1 of 1" and by_label["far too fast"][1] == "–"
    assert by_label["RSM"][-1] == "0 of 1" and by_label["RSM"][1] != "–"
    tested = [index for index, name in enumerate(sheet.header) if name == "p"]
    assert all(by_label["as published"][index] == "" == by_label["far too fast"][index] for index in tested)
    assert all(0 <= float(by_label["RSM"][index].removeprefix("< ")) <= 1 for index in tested)


def test_shares_and_rows_have_a_name_of_their_own() -> None:
    names = {variant_name(TINY, each) for each in table2.ROWS}
    assert len(names) == len(TABLE_2) == 11 and "default" in names
    assert variant_name(TINY, Variant({"epsilon": 0.6, "delta": 0.4})) == "delta-0.4"
    assert variant_name(TINY, Variant({}, "rsm")) == "default-with-rsm"


def test_cifar_has_a_schedule_of_its_own(tmp_path: Path) -> None:
    todo = [cell.name for cell in fig4b.cells(tmp_path, "cifar10-small", 1, tmp_path / "cifar")]
    assert "seed 0: train train_examples-5000" in todo and "seed 0: train default" in todo
    assert fig3.cells(tmp_path, "cifar100-small", 1)[0].name == "seed 0: standard models"
    schedule = variants.schedule_of("cifar10-small", tmp_path)
    assert schedule.config.data == "cifar10" and schedule.config.data_dir == tmp_path
    assert variants.SCHEDULES["cifar10-small"].config.data_dir is None


def test_the_page_has_a_section_for_what_is_committed(tiny: None, cases: Path, tmp_path: Path) -> None:
    """Of two seeds; the records of the second are a copy of those of the first."""
    assert [cell.name.split(":")[0] for cell in fig4a.cells(cases, "quick", 2)] == ["seed 0"] * 5 + ["seed 1"] * 5
    sections = (table2.section, fig2.section, fig4a.section, fig4b.section)
    assert [section(tmp_path / "results") for section in sections] == [[], [], [], []]
    for seed in range(2):
        kept = tmp_path / f"results/variants/short-seed-{seed}/judged"
        shutil.copytree(variants_folder(cases, "quick", 0) / "judged", kept)
        assert "default" in json.loads((kept / VARIANTS_FILE).read_text())
    said = "\n".join(fig4a.section(tmp_path / "results"))
    assert "2 seeds" in said and "Figure 4a" in said and "±" in said
    assert fig2.section(tmp_path / "results") == fig4b.section(tmp_path / "results") == []
    drawn = [path.name for each in (fig2, fig4a, fig4b) for path in each.draw(tmp_path / "results", tmp_path)]
    assert drawn == ["fig4a.png", "fig4a.pdf"]
