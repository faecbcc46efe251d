"""What other tools read: one line for each attacked image as CSV or Parquet, RobustBench's JSON, TensorBoard's logs."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from grfd import runs
from grfd.attacks.budgets import Ball
from grfd.attacks.registry import entry_of
from grfd.errors import UserError
from grfd.evaluation.case import Task, task_at
from grfd.evaluation.records import Record, read_records, roots_of
from grfd.evaluation.results import Results
from grfd.files import is_folder
from grfd.training.metrics import METRICS_FILE, read_epochs

EXAMPLE_COLUMNS = (
    "model", "protocol", "attack", "threat", "eps", "target", "index", "label", "clean_prediction",
    "adversarial_prediction", "distance", "queries", "robust",
)  # fmt: skip
"""The columns of an export. `threat`: what ε bounds; `eps` and `distance` are in that measure, pixels of [0, 1]."""


def example_columns(folder: Path) -> Iterator[dict[str, Any]]:
    """For each record of a run the columns of its images: `EXAMPLE_COLUMNS`, each as a list of the same length.

    Raises `UserError` for a damaged record, and for a run without records.
    """
    empty = True
    for root in roots_of(folder):
        for key, record in read_records(folder, root=root).items():
            empty = False
            yield _columns(task_at(root, *key), record)
    if empty:
        raise UserError(f"{folder} contains no records yet: run grfd evaluate {folder}")


def _columns(task: Task, record: Record) -> dict[str, Any]:
    budget, count = record.settings["attack"], len(record)
    known = task.attack.replace(":", "") if ":" in task.attack else entry_of(task.attack).threat
    threat = budget.get("norm", "linf" if ":" in task.attack else known)
    stored = record.columns
    repeated = {
        "model": task.model, "protocol": task.protocol, "attack": task.attack, "threat": threat,
        "eps": budget.get("eps"), "target": task.target,
    }  # fmt: skip
    columns = {name: [value] * count for name, value in repeated.items()}
    columns |= {name: stored[name].tolist() for name in ("index", "label", "clean_prediction")}
    columns["adversarial_prediction"] = stored["adversarial_prediction"].tolist()
    columns["distance"] = stored["norm"].astype(float).tolist()
    columns["queries"] = stored["queries"].astype(float).tolist()
    return columns | {"robust": record.robust.tolist()}


def write_csv(folder: Path, file: Path) -> int:
    """Writes one line for each image of each record. Returns the number of lines. An empty field means: none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(EXAMPLE_COLUMNS)
    lines = 0
    for columns in example_columns(folder):
        rows = zip(*(columns[name] for name in EXAMPLE_COLUMNS), strict=True)
        writer.writerows(["" if value is None else value for value in row] for row in rows)
        lines += len(columns["index"])
    _write(file, out.getvalue().encode())
    return lines


def write_parquet(folder: Path, file: Path) -> int:
    """The same as Parquet. Returns the number of lines. Raises `UserError` where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"--parquet needs pyarrow: pip install 'grfd[parquet]' ({error})") from error
    texts, wholes = {"model", "protocol", "attack", "threat", "target"}, {"index", "label", "clean_prediction",
                                                                        "adversarial_prediction"}  # fmt: skip
    kinds = {
        name: pyarrow.string() if name in texts else pyarrow.int64() if name in wholes
        else pyarrow.bool_() if name == "robust" else pyarrow.float64()
        for name in EXAMPLE_COLUMNS
    }  # fmt: skip
    schema = pyarrow.schema(list(kinds.items()))
    tables = [pyarrow.table(columns, schema=schema) for columns in example_columns(folder)]
    buffer = io.BytesIO()
    whole = pyarrow.concat_tables(tables)
    pyarrow.parquet.write_table(whole, buffer)
    _write(file, buffer.getvalue())
    return int(whole.num_rows)


ROBUSTBENCH = "aa"
"""RobustBench counts the standard AutoAttack."""


def robustbench_entry(folder: Path, results: Results, model: str) -> dict[str, Any]:
    """RobustBench's entry for a model (its model_info/DATASET/NORM/*.json), with the fields that a run knows.

    Accuracies are texts in per cent, as there. Fields that only a person can fill in are empty. Raises `UserError` if
    the standard AutoAttack was not run on the whole model in L∞ or L2, naming the models on which it was.
    """
    rows = [row for row in results.rows if row.protocol == "whitebox" and row.target is None]
    attacked = {row.model: row for row in rows if row.attack == ROBUSTBENCH}
    if model not in attacked:
        there = f"; it was on {', '.join(attacked)}" if attacked else ""
        raise UserError(f"the standard AutoAttack (aa) was not run under whitebox on {model}{there}")
    row = attacked[model]
    clean = next(each for each in rows if (each.model, each.attack, each.norm, each.eps)
                 == (model, "none", row.norm, row.eps))  # fmt: skip
    run = runs.load(folder)
    root = Task("", "", "", None if row.norm is None else Ball(row.norm, row.eps or 0.0)).root  # type: ignore[arg-type]
    record = read_records(folder, model, root)[model, "whitebox", ROBUSTBENCH]
    flagged = any(check.flagged for check in results.checks if check.model == model)
    return {
        "link": "",
        "name": model,
        "authors": "",
        "additional_data": False,
        "number_forward_passes": int(record.settings.get("votes", 1)),
        "dataset": run.config.data,
        "venue": "",
        "architecture": run.config.model,
        "eps": _as_fraction(float(record.settings["attack"]["eps"])),
        "clean_acc": f"{100 * clean.accuracy:.2f}",
        "reported": f"{100 * row.accuracy:.2f}",
        "autoattack_acc": f"{100 * row.accuracy:.2f}",
        "unreliable": flagged,
        "footnote": f"Measured with grfd on the first {row.examples:,} test images.",
    }


def _as_fraction(eps: float) -> str:
    """ε as RobustBench writes it: 8/255 where it is a whole number of steps of 8 bits."""
    steps = 255 * eps
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 and eps < 1 else f"{eps:g}"


def write_robustbench(folder: Path, results: Results, model: str, file: Path) -> None:
    """Writes `robustbench_entry`."""
    _write(file, (json.dumps(robustbench_entry(folder, results, model), indent=2) + "\n").encode())


def write_tensorboard(folder: Path, results: Results, out: Path) -> int:
    """Writes the metrics of all stages and all accuracies as TensorBoard scalars. Returns their number.

    Raises `UserError` where tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(f"--tensorboard needs tensorboard: pip install 'grfd[tensorboard]' ({error})") from error
    count = 0
    with SummaryWriter(log_dir=str(out)) as writer:
        for epoch in read_epochs(folder / METRICS_FILE):
            for name, value in epoch.items():
                if name not in ("stage", "epoch") and isinstance(value, int | float) and np.isfinite(value):
                    writer.add_scalar(f"{epoch['stage']}/{name}", value, int(epoch["epoch"]))
                    count += 1
        for row in results.rows:
            threat = "" if row.norm is None else f"/{row.norm}-{row.eps:g}"
            target = "" if row.target is None else f"/to-{row.target}"
            name = f"accuracy/{row.model}/{row.protocol}/{row.attack}{threat}{target}"
            writer.add_scalar(name, row.accuracy, 0)
            count += 1
    return count


def _write(file: Path, content: bytes) -> None:
    if not is_folder(file.parent):
        raise UserError(f"{file.parent} is no folder: make it first")
    runs.write_bytes(file, content)
