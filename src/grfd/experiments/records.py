"""What the experiments read of a run folder: its configuration and its metrics."""

import json
from pathlib import Path
from typing import Any

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
