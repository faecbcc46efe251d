"""docs/attacks.md: what it says follows from its records."""

import json
from pathlib import Path

import pytest

from grfd.bench.page import attacks_page
from grfd.errors import UserError

ROOT = Path(__file__).parents[2]


def record(rows: list[tuple[str, str, str, float, float]]) -> dict:
    names = ("library", "attack", "model", "seconds", "robust")
    return {
        "rows": [dict(zip(names, row, strict=True)) | {"examples": 500, "repeats": 3} for row in rows],
        "examples": 500,
        "seed": 0,
        "libraries": {"torchattacks": "3.5.1"},
        "versions": {"torch": "2.13.0"},
        "git_revision": "0123456789",
        "machine": {"processors": 2, "threads": 2},
    }


def test_ratios_and_shortfalls_are_named(tmp_path: Path) -> None:
    rows = [
        ("grfd", "pgd", "lenet5", 2.0, 0.5),
        ("torchattacks", "pgd", "lenet5", 5.0, 0.504),
        ("grfd", "square l2", "lenet5", 2.0, 0.51),
        ("torchattacks", "square l2", "lenet5", 1.0, 0.5),
    ]
    (tmp_path / "attack_speed.json").write_text(json.dumps(record(rows)))
    (tmp_path / "attack_parity.json").write_text(json.dumps(record(rows)))
    text = attacks_page(tmp_path)
    assert "| lenet5 | PGD | torchattacks | 3 | 5.0 | 2.50 | 50.4 | 50.0 |" in text
    assert "| lenet5 | Square in L2 | torchattacks | 3 | 1.0 | 0.50 | 50.0 | 51.0 |" in text
    assert "| lenet5 | Square in L2 | 51.0 | 50.0 |" in text
    assert "- Square in L2, lenet5: 1.0 points above torchattacks" in text
    assert "- PGD" not in text and "500 images, seed 0; last rows measured by grfd at 0123456" in text


def test_no_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no attack_speed"):
        attacks_page(tmp_path)


def test_the_committed_page_is_derived_from_the_committed_records() -> None:
    assert (ROOT / "docs" / "attacks.md").read_text() == attacks_page(ROOT / "results")
