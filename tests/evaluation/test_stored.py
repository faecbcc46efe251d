"""results.json and evaluation.json, damaged in any way, are one line that names the file and the way out."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grfd.errors import UserError
from grfd.evaluation.results import Check, Results, Row
from grfd.evaluation.stored import read_checks, read_evaluation, read_results

ROW = {"model": "standard", "protocol": "whitebox", "attack": "pgd", "examples": 10, "accuracy": 0.5}
CHECK = {"model": "standard", "name": "random outputs", "flagged": False, "detail": "no"}
RESULTS = {"rows": [ROW], "checks": [CHECK]}
EVALUATION = {"protocols": ["whitebox"], "attacks": ["pgd"], "examples": 10, "images": "MNIST", "weights": {}}


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


BYTES: dict[str, bytes] = {
    "empty": b"",
    "half": json.dumps(RESULTS).encode()[:40],
    "not UTF-8": b"\xff\xfe{}",
    "text": b"hello",
    "a list": b"[]",
    "a number": b"3",
    "nested": b"[" * 100_000,
    "null characters": b"\0" * 100,
}

DAMAGED: dict[str, Any] = {
    "no rows": {"checks": []},
    "no checks": {"rows": []},
    "something more": {**RESULTS, "more": 1},
    "rows are a dict": {**RESULTS, "rows": {}},
    "checks are nothing": {**RESULTS, "checks": None},
    "a row is a list": {**RESULTS, "rows": [[]]},
    "a row without its model": {**RESULTS, "rows": [without(ROW, "model")]},
    "accuracy is text": {**RESULTS, "rows": [ROW | {"accuracy": "0.5"}]},
    "accuracy is undefined": {**RESULTS, "rows": [ROW | {"accuracy": float("nan")}]},
    "accuracy above 1": {**RESULTS, "rows": [ROW | {"accuracy": 50.0}]},
    "examples are a fraction": {**RESULTS, "rows": [ROW | {"examples": 1.5}]},
    "examples are true": {**RESULTS, "rows": [ROW | {"examples": True}]},
    "no examples": {**RESULTS, "rows": [ROW | {"examples": 0}]},
    "a number for the model": {**RESULTS, "rows": [ROW | {"model": 3}]},
    "a check without its detail": {**RESULTS, "checks": [without(CHECK, "detail")]},
    "flagged is text": {**RESULTS, "checks": [CHECK | {"flagged": "no"}]},
}


def refused(read: Callable[[Path], Any], folder: Path, file: str) -> None:
    with pytest.raises(UserError, match="is damaged") as caught:
        read(folder)
    told = str(caught.value)
    assert file in told and "delete it and run grfd evaluate again" in told and "\n" not in told and len(told) < 600


@pytest.mark.parametrize("name", ["results.json", "evaluation.json"])
@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_are_no_record(tmp_path: Path, name: str, case: str) -> None:
    (tmp_path / name).write_bytes(BYTES[case])
    refused(read_results if name == "results.json" else read_evaluation, tmp_path, name)


@pytest.mark.parametrize("case", DAMAGED)
def test_results_with_other_fields(tmp_path: Path, case: str) -> None:
    (tmp_path / "results.json").write_text(json.dumps(DAMAGED[case]))
    refused(read_results, tmp_path, "results.json")


@pytest.mark.parametrize("changed", [{"examples": "10"}, {"images": None}, {"attacks": "pgd"}, {"protocols": {}}])
def test_an_evaluation_with_other_fields(tmp_path: Path, changed: dict[str, Any]) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION | changed))
    refused(lambda folder: read_evaluation(folder, *EVALUATION.keys() - {"weights"}), tmp_path, "evaluation.json")


@pytest.mark.parametrize("checks", [{}, None, [[]], [CHECK | {"flagged": 1}]])
def test_checks_with_other_fields(tmp_path: Path, checks: object) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"checks": checks}))
    refused(read_checks, tmp_path, "results.json")


@pytest.mark.parametrize("name", ["results.json", "evaluation.json"])
def test_a_folder_of_that_name_and_none(tmp_path: Path, name: str) -> None:
    read = read_results if name == "results.json" else read_evaluation
    refused(read, tmp_path, name)
    (tmp_path / name).mkdir()
    refused(read, tmp_path, name)


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS | {"rows": [ROW, ROW | {"accuracy": 1}]}))
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    assert read_results(tmp_path).rows[0] == Row(**ROW) and read_checks(tmp_path) == (Check(**CHECK),)
    written = read_results(tmp_path).to_json()
    assert written["rows"][0]["low"] < ROW["accuracy"] < written["rows"][0]["high"]
    (tmp_path / "results.json").write_text(json.dumps(written))
    assert read_results(tmp_path).to_json() == written
    assert read_evaluation(tmp_path, "images")["images"] == "MNIST"


ROWS = (Row("standard", "whitebox", "none", 10, 0.9), Row("standard", "whitebox", "pgd", 10, 0.5))


def test_rows_become_a_frame_where_pandas_is_installed() -> None:
    pytest.importorskip("pandas")
    frame = Results(ROWS, ()).to_frame()
    assert list(frame.columns) == list(Results(ROWS, ()).to_json()["rows"][0])
    shared = ["model", "protocol", "attack", "examples", "accuracy"]
    assert [Row(*row) for row in frame[shared].itertuples(index=False)] == list(ROWS)
    assert list(Results((), ()).to_frame().columns) == list(frame.columns)


def test_without_pandas_a_frame_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"to_frame needs pandas: pip install 'grfd\[frame\]'"):
        Results(ROWS, ()).to_frame()
