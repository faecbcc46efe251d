"""What other tools read back is what the records hold."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from grfd.errors import UserError
from grfd.evaluation import records
from grfd.evaluation.stored import read_results
from grfd.report import exports

FIELDS = """link name authors additional_data number_forward_passes dataset venue architecture eps clean_acc reported
autoattack_acc footnote unreliable"""
"""Those of RobustBench's model_info/cifar10/Linf/*.json."""
DEMO = Path(__file__).parents[2] / "results/demo"
LONG = Path(__file__).parents[2] / "results/mnist-lenet5"
"""It was attacked by AutoAttack, too, which RobustBench asks for."""


def stored() -> dict[tuple[str, str, str], records.Record]:
    return records.read_records(DEMO)


def test_csv_has_one_line_for_each_image_of_each_record(tmp_path: Path) -> None:
    count = exports.write_csv(DEMO, tmp_path / "examples.csv")
    with (tmp_path / "examples.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == count == sum(map(len, stored().values()))
    for (model, protocol, attack), record in stored().items():
        mine = [
            line for line in lines if (line["model"], line["protocol"], line["attack"]) == (model, protocol, attack)
        ]
        assert [line["robust"] == "True" for line in mine] == record.robust.tolist()
        assert np.allclose([float(line["distance"]) for line in mine], record.columns["norm"])
        assert {float(line["eps"]) for line in mine} == {record.settings["attack"]["eps"]}
        assert {line["threat"] for line in mine} == {"linf"} and {line["target"] for line in mine} == {""}


def test_parquet_is_the_same_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    exports.write_parquet(DEMO, tmp_path / "examples.parquet")
    table = parquet.read_table(tmp_path / "examples.parquet")
    assert tuple(table.column_names) == exports.EXAMPLE_COLUMNS
    wanted = list(exports.example_columns(DEMO))
    for name in exports.EXAMPLE_COLUMNS:
        assert table[name].to_pylist() == [value for columns in wanted for value in columns[name]]


def test_the_robustbench_entry_has_its_fields_and_our_numbers(tmp_path: Path) -> None:
    results = read_results(LONG)
    (tmp_path / "out").mkdir()
    exports.write_robustbench(LONG, results, "grfd", tmp_path / "out/grfd.json")
    entry = json.loads((tmp_path / "out/grfd.json").read_text())
    assert set(entry) == {*FIELDS.split()}
    record = records.read_records(LONG)["grfd", "whitebox", "aa"]
    assert entry["autoattack_acc"] == f"{100 * record.robust.mean():.2f}"
    assert entry["clean_acc"] == f"{100 * record.clean.mean():.2f}"
    assert entry["eps"] == "20/255" and entry["dataset"] == "mnist" and entry["unreliable"] is False


def test_an_entry_without_autoattack_is_one_line() -> None:
    with pytest.raises(UserError, match=r"was not run under whitebox on trades; it was on standard, grfd"):
        exports.robustbench_entry(LONG, read_results(LONG), "trades")


def test_tensorboard_reads_the_metrics_and_accuracies(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    results = read_results(DEMO)
    count = exports.write_tensorboard(DEMO, results, tmp_path)
    events = reading.EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()["scalars"]
    assert sum(len(events.Scalars(tag)) for tag in tags) == count
    (worst,) = [row for row in results.rows if (row.model, row.protocol, row.attack) == ("grfd", "adaptive", "worst")]
    (found,) = events.Scalars("accuracy/grfd/adaptive/worst")
    assert found.value == pytest.approx(worst.accuracy)
    losses = [
        line for line in (DEMO / "metrics.jsonl").read_text().splitlines() if json.loads(line)["stage"] == "stage-one"
    ]
    assert [event.step for event in events.Scalars("stage-one/rc")] == [json.loads(line)["epoch"] for line in losses]


@pytest.mark.parametrize(
    ("module", "write"),
    [("pyarrow", exports.write_parquet), ("torch.utils.tensorboard", exports.write_tensorboard)],
)
def test_a_missing_extra_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, write: object
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    arguments = (read_results(DEMO), tmp_path) if module.startswith("torch") else (tmp_path / "file",)
    with pytest.raises(UserError, match=r"pip install 'grfd\["):
        write(DEMO, *arguments)


def test_a_run_without_records_and_a_missing_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no records yet"):
        exports.write_csv(tmp_path, tmp_path / "a.csv")
    with pytest.raises(UserError, match="is no folder: make it first"):
        exports.write_csv(DEMO, tmp_path / "none/a.csv")
