"""GRFD robust beside adversarial training: contenders share stage I, comparisons are paired, controls are equal."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import binomtest

import grfd
from grfd.api.job import named_data
from grfd.config import Config
from grfd.errors import UserError
from grfd.evaluation import checks, paired, probes, records
from grfd.evaluation.records import Record
from grfd.experiments import cells, robust
from grfd.experiments.robust import contenders
from grfd.experiments.robust import numbers as report
from grfd.experiments.robust.contenders import (
    Contender,
    _control,
    _ours,
    _pgd_at,
    _spending,
    _trades,
    gradients,
)
from grfd.experiments.robust.numbers import JUDGED

TINY = replace(
    contenders.CONTENDER_SCALES["quick"],
    config=Config(epochs=1, classifier_epochs=1, latent=8, train_examples=300, batch=100, device="cpu"),
    examples=8,
    attacks=("fgsm",),
)

SEED = "quick-seed-0"


def text(parts: list) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


@pytest.fixture(scope="module")
def tiny() -> Iterator[None]:
    """The scale "quick" in seconds. Finalists meet PGD, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contenders.CONTENDER_SCALES, "quick", replace(TINY, of_finalists=("fgsm", "pgd")))
        patch.setattr(checks, "PROBES", dict(list(probes.PROBES.items())[:1]))
        yield


@pytest.fixture(scope="module")
def trained(tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all cells, which was stopped after three of them and continued."""
    out = tmp_path_factory.mktemp("runs")
    todo = robust.cells(out, "quick", 1)
    cells.run(todo[:3])
    assert [cell.done() for cell in todo] == [True] * 3 + [False] * 8
    cells.run(todo)
    assert all(cell.done() for cell in todo)
    return out


@pytest.fixture
def kept(trained: Path, tmp_path: Path) -> Path:
    """results/ with the records of that run, and without any weights."""
    shutil.copytree(trained / SEED / JUDGED, tmp_path / "results/robust/short-seed-0" / JUDGED)
    return tmp_path / "results"


def test_contenders_that_start_from_stage_one_share_it(trained: Path) -> None:
    shared = [trained / SEED / name / "lvcvae.safetensors" for name in ("stage-one", "grfd-robust")]
    assert shared[0].read_bytes() == shared[1].read_bytes()
    assert not (trained / SEED / "control/lvcvae.safetensors").exists()


def test_weights_are_listed_with_the_verdict_that_they_got_beside_the_others(trained: Path) -> None:
    worst = {Path(model.run).name: model.worst for model in grfd.fitted_models(trained)}
    assert worst.keys() - {"standard"} == {"pgd-at", "grfd", "control", "grfd-robust"}
    there = {row.model: row for row in grfd.results(trained / SEED / JUDGED).rows if row.attack == "worst"}
    assert worst["control"] is not None and worst["control"].accuracy == there["control"].accuracy


def test_finalists_meet_all_attacks_and_the_others_are_compared_by_the_common_ones(trained: Path) -> None:
    sheet = report.robust_sheet([trained / SEED / JUDGED])
    more = {row[0]: row[sheet.header.index("worst of all")] != "–" for row in sheet.rows}
    assert more == {"standard": True, "pgd-at": True, "grfd": True, "control": False, "grfd-robust": False}
    short = report.short_sheet([trained / SEED / JUDGED])
    assert [row[0] for row in short.rows] == ["none", "GRFD as published", "GRFD robust", "control", "PGD-AT"]
    assert "FGSM" in short.title and "PGD" not in short.title  # only FGSM was run on the control


def test_show_prints_and_writes_the_comparison(trained: Path) -> None:
    printed = text(robust.show(trained, "quick", 1))
    assert "grfd-robust less" in printed and "robust.png" in printed
    assert (trained / "robust-paired.csv").read_text().count("\n") == 4


def test_records_alone_say_what_is_done(tiny: None, kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "robust/short-seed-0" / JUDGED, tmp_path / SEED / JUDGED)
    assert all(cell.done() for cell in robust.cells(tmp_path, "quick", 1))
    for name, starts_from_it in (("control", False), ("grfd-robust", True)):
        shutil.rmtree(tmp_path / SEED / JUDGED / "records" / name)
        standards, stage_one, *_ = robust.cells(tmp_path, "quick", 1)
        assert not standards.done() and stage_one.done() is not starts_from_it


def test_records_of_another_configuration_are_refused_before_the_first_cell(
    tiny: None, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(kept / "robust/short-seed-0" / JUDGED, tmp_path / SEED / JUDGED)
    shutil.rmtree(tmp_path / SEED / JUDGED / "records/control")
    moved = replace(TINY, config=replace(TINY.config, latent=9))
    monkeypatch.setitem(contenders.CONTENDER_SCALES, "quick", moved)
    with pytest.raises(UserError, match=r"judged holds a run of another configuration \(latent 8 → 9\)"):
        cells.run(robust.cells(tmp_path, "quick", 1))
    assert not (tmp_path / SEED / "standard").exists()


def test_the_page_has_tables_and_curves_of_kept_records(kept: Path, tmp_path: Path) -> None:
    assert robust.section(tmp_path / "empty") == [] == robust.draw(tmp_path / "empty", tmp_path)
    paragraphs = "\n".join(robust.section(kept))
    assert "| control |" in paragraphs and "The same with all attacks" not in paragraphs
    assert [path.name for path in robust.draw(kept, tmp_path)] == ["robust.png", "robust.pdf"]


def test_a_seed_of_fewer_attacks_is_compared_by_those(kept: Path) -> None:
    second = kept / "robust/short-seed-1" / JUDGED
    shutil.copytree(kept / "robust/short-seed-0" / JUDGED, second)
    for path in second.glob("records/*/*/pgd.npz"):
        path.unlink()
    alike = report.robust_sheet([second])
    # a single attack is its own worst case
    assert not any(name.startswith("worst of") for name in alike.header)
    assert "FGSM" in report.in_brief(alike).header
    assert all(len(row) == len(alike.header) for row in alike.rows)
    first, last = "\n".join(robust.section(kept)).split("The same with all attacks")
    assert "Worst of FGSM, 2 seeds" in first
    assert "PGD" not in first.split("All contenders")[1].split("A comparison")[0]
    assert "one seed" in last and "| pgd-at |" in last
    assert "PGD" in last.split("All contenders")[1].split("A comparison")[0]


def test_validation_images_are_ones_that_no_contender_has_seen() -> None:
    scale = contenders.CONTENDER_SCALES["search"]
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
    (tmp_path / report.CONTENDERS_FILE).write_text(json.dumps(about))
    (tmp_path / "config.json").write_text(json.dumps({"config": {"data": "mnist"}}))
    return tmp_path


def test_a_contender_is_shown_when_every_seed_has_it(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    fewer = tmp_path_factory.mktemp("results") / "seed"
    shutil.copytree(folder, fewer)
    found = json.loads((folder / report.CONTENDERS_FILE).read_text())
    del found["c"]
    (fewer / report.CONTENDERS_FILE).write_text(json.dumps(found))
    assert [row[0] for row in report.paired_sheet([folder]).rows] == ["b", "c"]
    for folders in ([folder, fewer], [fewer, folder]):
        assert [row[0] for row in report.paired_sheet(folders).rows] == ["b"]
        assert report.representative(folders, "control") is None


def test_comparisons_are_paired_and_over_all_attacks(folder: Path) -> None:
    found = paired.compared([folder, folder], "a", "b")
    assert (found.images, found.ours_alone, found.theirs_alone) == (100, 30, 10)
    assert found.difference == 10.0
    assert found.p_value == pytest.approx(binomtest(15, 20).pvalue)  # a copied seed is no new evidence
    assert found.interval[0] < 10 < found.interval[1]
    assert paired.compared([folder], "a", "c").p_value == 1.0
    said = "\n".join(report.verdict_lines([folder]))
    assert "TRADES at 98.82 % clean. a is at 100.00 % clean." in said
    assert "compared with b, the strongest PGD-AT, at 100.00 % clean: +10.00 [" in said and "TRADES:" not in said
    assert (
        "compared with c, the strongest control, at 100.00 % clean: +0.00 [" in said
        and "(p 1.000, which may be chance)" in said
    )
    (folder / "config.json").write_text(json.dumps({"config": {"data": "cifar10"}}))
    assert "TRADES. a is at" in "\n".join(report.verdict_lines([folder]))  # the clean accuracy aimed at is MNIST's
    lines = {row[0]: row for row in report.paired_sheet([folder]).rows}
    assert lines["b"][1].startswith("+10.00 [") and lines["b"][2:4] == ["15", "5"]
    assert lines["c"][1].startswith("+0.00 [")
    # the odd ones of each alone fall to PGD: 8 with ours, 3 with theirs
    assert paired.compared([folder], "a", "b", left_out=["fgsm"]).ours_alone == 8
    assert lines["b"][5].startswith("+5.00 [") and lines["b"][6] == "0.227"
    assert report.decided_by_largest([folder]) == []
    (folder / "records/b/adaptive/pgd.npz").unlink()
    assert report.decided_by_largest([folder]) == ["b"]
    assert {row[0]: row[5:] for row in report.paired_sheet([folder]).rows}["b"] == ["–", "–"]


def test_the_best_is_a_finalist_where_there_is_one(folder: Path) -> None:
    file = folder / report.CONTENDERS_FILE
    about = {name: each | {"group": report.OURS} for name, each in json.loads(file.read_text()).items()}
    file.write_text(json.dumps(about))
    assert (
        report.representative([folder], report.OURS) in ("a", "c") and report.representative([folder], "TRADES") is None
    )
    file.write_text(json.dumps(about | {"b": about["b"] | {"finalist": True}}))
    assert report.representative([folder], report.OURS) == "b"


def test_gradients_are_counted_alike() -> None:
    config = Config(epochs=9, classifier_epochs=7)
    assert gradients(_pgd_at(0.1, epochs=8), config) == 8 * (3 + 1)
    assert gradients(_trades(0.1, 3.0, epochs=8), config) == 8 * (3 + 2)
    assert gradients(_control(0.1, epochs=8), config) == 8 * (3 + 1)
    assert gradients(_ours(0.1, epochs=8, start="stage_one"), config) == 8 * (3 + 1) + 9 * 5
    assert gradients(_ours(0.1, epochs=8, consistency=3.0, robustness=0.1), config) == 8 * (3 + 2 + 4)
    assert gradients(Contender("GRFD as published", "grfd"), config) == 9 * 5 + 7


@pytest.mark.parametrize("name", contenders.CONTENDER_SCALES)
def test_no_contender_spends_more_than_another_by_an_epoch(name: str) -> None:
    """But GRFD as published, whose schedule is the paper's, and a rival that is given more on purpose."""
    scale = contenders.CONTENDER_SCALES[name]
    spent = {
        key: gradients(each, scale.config)
        for key, each in scale.contenders.items()
        if each.defense != "grfd" and not key.endswith("-four-times")
    }
    for key, each in scale.contenders.items():
        if key in spent:
            assert max(spent.values()) - spent[key] < contenders._gradients_an_epoch(each), key
            assert each.recipe["epochs"] > 0


def test_what_a_budget_buys() -> None:
    given = {
        "pgd-at": _pgd_at(0.1),
        "trades": _trades(0.1, 3.0),
        "ours": _ours(0.1, start="stage_one"),
        "grfd": contenders._AS_PUBLISHED,
        "long": _pgd_at(0.1, epochs=99),
    }
    bought = _spending(60, Config(epochs=4), given)
    assert {name: each.recipe.get("epochs") for name, each in bought.items()} == {
        "pgd-at": 15, "trades": 12, "ours": 10, "grfd": None, "long": 99
    }  # fmt: skip


def test_a_contender_of_other_networks_has_a_stage_one_of_its_own() -> None:
    from_it = {"start": "stage_one"}
    assert robust._shares_stage_one(_ours(0.1, **from_it)) and not robust._shares_stage_one(_ours(0.1))
    assert not robust._shares_stage_one(_ours(0.1, {"latent": 8}, **from_it))
