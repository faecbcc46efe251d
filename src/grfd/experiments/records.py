"""What the experiments read of a run folder: its configuration, its metrics, and whether its records are complete."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grfd.evaluation import records
from grfd.training import metrics


def config_file_of(folder: Path) -> dict[str, Any]:
    """The content of config.json: `config`, `versions`, `machine`, seed and git revision."""
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a run: the fields of `Config` and their values."""
    config: dict[str, Any] = config_file_of(folder)["config"]
    return config


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one for each epoch of each stage; empty if there is no such file."""
    return metrics.read_epochs(folder / metrics.METRICS_FILE)


def stage_one_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are of stage I, epoch by epoch."""
    return [line for line in metrics_of(folder) if line["stage"] == "stage-one"]


def are_complete(
    folder: Path, model: str, protocol: str, attacks: Iterable[str], examples: int, root: str = records.RECORDS
) -> bool:
    """Whether the record of each attack has enough images, and its transferred examples took all steps."""
    stored = [records.read_record(records.path_of(folder, model, protocol, attack, root)) for attack in attacks]
    return all(
        record is not None
        and len(record) >= examples
        and not (protocol in ("transfer", "adaptive") and left_early(record.settings))
        for record in stored
    )


def left_early(settings: Mapping[str, Any]) -> bool:
    """Whether transferred examples left their attack at the first success, as they did before November 2026.

    `settings` of a record under `transfer` or `adaptive`. Later ones contain the settings of the transfer.
    """
    return "transfer" not in settings


def early_note(folders: Sequence[Path]) -> list[str]:
    """A paragraph for the page if, in one of these folders, transferred examples left their attack at first success."""
    found = (records.read_settings(path) for folder in folders for path in folder.rglob("*/*/transfer/*.npz"))
    if not any(map(left_early, found)):
        return []
    where = "see the warning at the top of this page"
    return [f"† The numbers under `transfer` and `adaptive` of this section are too high: {where}."]


def kept_name(folder: Path) -> str:
    """The name of a kept folder of records below results/: EXPERIMENT/SCALE-seed-N/judged."""
    return "/".join(folder.parts[-3:])
