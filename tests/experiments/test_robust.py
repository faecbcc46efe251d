"""GRFD robust beside adversarial training: contenders share stage I, comparisons are paired, controls are equal."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import binomtest

from grfd.api.job import named_data
from grfd.config import Config
from grfd.errors import UserError
from grfd.evaluation import paired, records
from grfd.evaluation.records import Record
from grfd.experiments import cells, robust
from grfd.experiments.robust import contenders
from grfd.experiments.robust import numbers as report
from grfd.experiments.robust import section as robust_section
from grfd.experiments.robust.contenders import Contender, control, gradients, ours, pgd_at, spending, trades

TINY = replace(
    contenders.SCALES["quick"],
    config=Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"),
    examples=8,
    attacks=("fgsm",),
)


def text(parts: list) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


def test_from_training_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_probe: None) -> None:
    monkeypatch.setitem(contenders.SCALES, "quick", TINY)
    monkeypatch.setattr(robust, "ATTACKS_OF_FINALISTS", ("fgsm", "pgd"))
    todo = robust.cells(tmp_path / "runs", "quick", 1)
    cells.run(todo[:3])
    assert [cell.done() for cell in todo] == [True] * 3 + [False] * 8
    cells.run(todo)
    assert all(cell.done() for cell in todo)
    folder = tmp_path / "runs" / "quick-seed-0"
    shared = [folder / name / "lvcvae.safetensors" for name in ("stage-one", "grfd-robust")]
    assert shared[0].read_bytes() == shared[1].read_bytes() and not (folder / "control/lvcvae.safetensors").exists()
    said = text(robust.show(tmp_path / "runs", "quick", 1))
    assert "grfd-robust less" in said and "robust.png" in said
    # finalists alone meet all attacks; the others are compared with them by those that both have met
    sheet = report.robust_sheet([folder / robust.JUDGED])
    met = {row[0]: row[sheet.header.index("worst of all")] != "–" for row in sheet.rows}
    assert met == {"standard": True, "pgd-at": True, "grfd": True, "control": False, "grfd-robust": False}
    short = report.short_sheet([folder / robust.JUDGED])
    assert [row[0] for row in short.rows] == ["none", "GRFD as published", "GRFD robust", "control", "PGD-AT"]
    assert "FGSM" in short.title and "PGD" not in short.title  # the control has met FGSM alone
    assert (tmp_path / "runs/robust-paired.csv").read_text().count("\n") == 4
    assert robust_section.section(tmp_path / "results") == [] == robust_section.draw(tmp_path / "results", tmp_path)
    (tmp_path / "results").mkdir()
    (folder / robust.JUDGED).rename(tmp_path / "results" / f"{robust_section.FOLDERS['robust']}-0")
    # the records alone say what is done
    shutil.copytree(
        tmp_path / "results" / f"{robust_section.FOLDERS['robust']}-0", tmp_path / "kept/quick-seed-0" / robust.JUDGED
    )
    assert all(cell.done() for cell in robust.cells(tmp_path / "kept", "quick", 1))
    # and stage I is trained where one that is waiting starts from it
    for name, needed in (("control", False), ("grfd-robust", True)):
        shutil.rmtree(tmp_path / "kept/quick-seed-0" / robust.JUDGED / "records" / name)
        standards, first, *_ = robust.cells(tmp_path / "kept", "quick", 1)
        assert not standards.done() and first.done() is not needed
    # a mistake that the last cell would meet is told before the first
    moved = replace(TINY, config=replace(TINY.config, latent=9))
    monkeypatch.setitem(contenders.SCALES, "quick", moved)
    with pytest.raises(UserError, match=r"judged holds a run of another configuration \(latent 8 → 9\)"):
        cells.run(robust.cells(tmp_path / "kept", "quick", 1))
    assert not (tmp_path / "kept/quick-seed-0/standard").exists()
    assert "| control |" in "\n".join(robust_section.section(tmp_path / "results"))
    assert [path.name for path in robust_section.draw(tmp_path / "results", tmp_path)] == ["robust.png", "robust.pdf"]
    assert "By all attacks" not in "\n".join(robust_section.section(tmp_path / "results"))
    # a seed that has met fewer attacks is compared by those, and the others by all of theirs besides
    second = tmp_path / "results" / f"{robust_section.FOLDERS['robust']}-1"
    shutil.copytree(tmp_path / "results" / f"{robust_section.FOLDERS['robust']}-0", second)
    for path in second.glob("records/*/*/pgd.npz"):
        path.unlink()
    # where all have met the same, there is one worst case
    alike = report.robust_sheet([second])
    assert "worst of the 1" in alike.header and "worst of all" not in alike.header
    assert all(len(row) == len(alike.header) for row in alike.rows)
    told = "\n".join(robust_section.section(tmp_path / "results"))
    first, last = told.split("By all attacks")
    assert "Worst of FGSM, 2 seeds" in first and "PGD" not in first.split("All contenders")[1].split("Example")[0]
    assert "one seed" in last and "| pgd-at |" in last and "PGD" in last.split("All contenders")[1].split("Example")[0]


def test_validation_images_are_ones_that_no_contender_has_seen() -> None:
    scale = contenders.SCALES["search"]
    assert scale.validation and scale.config.train_examples
    whole, given = named_data(scale.config), robust._attacked(scale.config, scale)
    assert torch.equal(given.test.images, whole.train.images[scale.config.train_examples :])
    assert torch.equal(given.test.labels, whole.train.labels[scale.config.train_examples :])
    assert len(given.test) >= scale.examples
    assert torch.equal(robust._attacked(scale.config, TINY).test.images, whole.test.images)


@pytest.fixture
def folder(tmp_path: Path, record_of: Callable[[np.ndarray], Record]) -> Path:
    """Ours is right on 90 of 100, theirs on 80: 15 with ours alone, 5 with theirs alone; two attacks share the work."""
    ours, theirs = np.arange(100) < 90, (np.arange(100) < 75) | (np.arange(100) >= 95)
    for name, right in (("a", ours), ("b", theirs), ("c", ours)):
        for attack, fallen in (("fgsm", np.arange(100) % 2 == 0), ("pgd", np.arange(100) % 2 == 1)):
            records.write_record(records.path_of(tmp_path, name, "adaptive", attack), record_of(right | ~fallen))
    groups = {"a": report.OURS, "b": "PGD-AT", "c": "control"}
    about = {name: {"group": group, "gradients": 10, "finalist": False} for name, group in groups.items()}
    (tmp_path / report.CONTENDERS).write_text(json.dumps(about))
    (tmp_path / "config.json").write_text(json.dumps({"config": {"data": "mnist"}}))
    return tmp_path


def test_a_contender_is_shown_when_every_seed_has_it(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    fewer = tmp_path_factory.mktemp("results") / "seed"
    shutil.copytree(folder, fewer)
    found = json.loads((folder / report.CONTENDERS).read_text())
    del found["c"]
    (fewer / report.CONTENDERS).write_text(json.dumps(found))
    assert [row[0] for row in report.paired_sheet([folder]).rows] == ["b", "c"]
    for folders in ([folder, fewer], [fewer, folder]):
        assert [row[0] for row in report.paired_sheet(folders).rows] == ["b"]
        assert report.best_of(folders, "control") is None


def test_comparisons_are_paired_and_over_all_attacks(folder: Path) -> None:
    found = paired.compared([folder, folder], "a", "b")
    assert (found.examples, found.ours_alone, found.theirs_alone) == (200, 30, 10)
    assert found.difference == 10.0
    assert found.p_value == pytest.approx(binomtest(30, 40).pvalue) and found.p_value < 0.01
    assert paired.compared([folder], "a", "c").p_value == 1.0
    said = "\n".join(report.verdict([folder]))
    assert "TRADES at 98.82 % clean. a is at 100.00 % clean." in said
    assert (
        "beside b, the strongest PGD-AT, at 100.00 % clean: +10.00 points (p 0.041)" in said and "TRADES:" not in said
    )
    assert "beside c, the strongest control, at 100.00 % clean: +0.00 points (p 1.000, which may be chance)" in said
    (folder / "config.json").write_text(json.dumps({"config": {"data": "cifar10"}}))
    assert "TRADES. a is at" in "\n".join(report.verdict([folder]))  # the clean accuracy aimed at is MNIST's
    lines = {row[0]: row for row in report.paired_sheet([folder]).rows}
    assert lines["b"][1:4] == ["+10.00", "15", "5"] and lines["c"][1] == "+0.00"
    # the odd ones of each alone fall to PGD: 8 with ours, 3 with theirs
    assert paired.compared([folder], "a", "b", left_out=["fgsm"]).ours_alone == 8
    assert lines["b"][5:] == ["+5.00", "0.227"]
    assert report.decided_by_largest([folder]) == []
    (folder / "records/b/adaptive/pgd.npz").unlink()
    assert report.decided_by_largest([folder]) == ["b"]
    assert {row[0]: row[5:] for row in report.paired_sheet([folder]).rows}["b"] == ["–", "–"]


def test_the_best_is_a_finalist_where_there_is_one(folder: Path) -> None:
    file = folder / report.CONTENDERS
    about = {name: each | {"group": report.OURS} for name, each in json.loads(file.read_text()).items()}
    file.write_text(json.dumps(about))
    assert report.best_of([folder], report.OURS) in ("a", "c") and report.best_of([folder], "TRADES") is None
    file.write_text(json.dumps(about | {"b": about["b"] | {"finalist": True}}))
    assert report.best_of([folder], report.OURS) == "b"


def test_gradients_are_counted_alike() -> None:
    config = Config(epochs=9, classifier_epochs=7)
    assert gradients(pgd_at(0.1, epochs=8), config) == 8 * (3 + 1)
    assert gradients(trades(0.1, 3.0, epochs=8), config) == 8 * (3 + 2)
    assert gradients(control(0.1, epochs=8), config) == 8 * (3 + 1)
    assert gradients(ours(0.1, epochs=8, start="stage_one"), config) == 8 * (3 + 1) + 9 * 5
    assert gradients(ours(0.1, epochs=8, consistency=3.0, robustness=0.1), config) == 8 * (3 + 2 + 4)
    assert gradients(Contender("GRFD as published", "grfd"), config) == 9 * 5 + 7


@pytest.mark.parametrize("name", contenders.SCALES)
def test_no_contender_spends_more_than_another_by_an_epoch(name: str) -> None:
    """But GRFD as published, whose schedule is the paper's, and a rival that is given more on purpose."""
    scale = contenders.SCALES[name]
    spent = {
        key: gradients(each, scale.config)
        for key, each in scale.contenders.items()
        if each.defense != "grfd" and not key.endswith("-four-times")
    }
    for key, each in scale.contenders.items():
        if key in spent:
            assert max(spent.values()) - spent[key] < contenders.gradients_an_epoch(each), key
            assert each.recipe["epochs"] > 0


def test_what_a_budget_buys() -> None:
    given = {
        "pgd-at": pgd_at(0.1),
        "trades": trades(0.1, 3.0),
        "ours": ours(0.1, start="stage_one"),
        "grfd": contenders.AS_PUBLISHED,
        "long": pgd_at(0.1, epochs=99),
    }
    bought = spending(60, Config(epochs=4), given)
    assert {name: each.recipe.get("epochs") for name, each in bought.items()} == {
        "pgd-at": 15, "trades": 12, "ours": 10, "grfd": None, "long": 99
    }  # fmt: skip


def test_a_contender_of_other_networks_has_a_stage_one_of_its_own() -> None:
    from_it = {"start": "stage_one"}
    assert robust._shares_stage_one(ours(0.1, **from_it)) and not robust._shares_stage_one(ours(0.1))
    assert not robust._shares_stage_one(ours(0.1, {"latent": 8}, **from_it))
