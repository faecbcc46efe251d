"""The section on other threat models follows from records, and the plan names every cell."""

import json
from pathlib import Path

import numpy as np
import pytest

from grfd.attacks.budgets import Ball
from grfd.evaluation.case import Task
from grfd.evaluation.records import Record, path_of, write_record
from grfd.experiments import threat_models
from grfd.experiments.threat_models import cells, section


def record(right: int, eps: float, norm: str, of: int = 100) -> Record:
    """`of` images of class 1, of which `right` withstand; the others fall at a distance of half ε."""
    columns = {
        "index": np.arange(of),
        "label": np.ones(of, dtype=np.int64),
        "clean_prediction": np.ones(of, dtype=np.int64),
        "adversarial_prediction": (np.arange(of) < right).astype(np.int64),
        "norm": np.full(of, 0.5 if np.isinf(eps) else eps / 2, dtype=np.float32),
        "queries": np.ones(of, dtype=np.float32),
    }
    return Record(columns, {"attack": {"eps": eps, "norm": norm}})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "threat-models/short-seed-0"
    for model, fallen in (("standard", 60), ("pgd-at", 10)):
        for norm, values in (("linf", (0.0, 0.1, 0.2)), ("l2", (0.0, 1.0))):
            for place, eps in enumerate(values):
                root = Task("", "", "", Ball(norm, eps)).root
                write_record(
                    path_of(folder, model, "adaptive", "pgd", root), record(100 - place * fallen // 2, eps, norm)
                )
        root = Task("", "", "", Ball("l2", float("inf"))).root
        write_record(path_of(folder, model, "whitebox", "ddn", root), record(0, float("inf"), "l2"))
    config = {"config": {"data": "mnist", "model": "lenet5", "epochs": 3}}
    (folder / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_the_section_has_a_curve_for_each_norm_and_the_distances(results: Path) -> None:
    said = "\n\n".join(section(results))
    assert "| model | 0 | 0.1 | 0.2 |" in said and "| model | 0 | 1 |" in said
    assert "| standard | 100.0 [96, 100] | 70.0 [60, 78] | 40.0 [31, 50] |" in said
    assert "| PGD-AT | 100.0 [96, 100] | 95.0 [89, 98] | 90.0 [83, 94] |" in said
    assert "| standard | DDN | 0.500 | 0.500 | 0.500 | 100 of 100 |" in said
    assert "L∞, PGD:" in said and "one seed" in said


def test_the_figures_are_drawn(results: Path, tmp_path: Path) -> None:
    drawn = threat_models.draw(results, tmp_path)
    assert {path.name for path in drawn} >= {"threat-models-linf.png", "threat-models-l2.png"}
    assert all(path.stat().st_size > 3_000 for path in drawn)


def test_no_records_no_section(tmp_path: Path) -> None:
    assert section(tmp_path) == [] and threat_models.draw(tmp_path, tmp_path) == []


def test_the_plan_names_each_defense_curve_and_the_corruptions(tmp_path: Path) -> None:
    names = [cell.name for cell in cells(tmp_path, "short", 2)]
    for part in ("fit standard", "fit grfd-robust", "curve in L∞, 7 values of ε", "curve in L2", "distances in L2"):
        assert any(name.startswith(f"seed 1: {part}") for name in names), part
    assert not any(cell.done() for cell in cells(tmp_path, "short", 1))
