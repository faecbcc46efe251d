"""The RSM in F's place, attacked at growing ε: from the records of `grfd reproduce rsm`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grfd.evaluation.numbers import column_titles, columns, grid, rows
from grfd.evaluation.spread import spread, values
from grfd.evaluation.stored import read_checks
from grfd.report.sheets import Sheet, markdown

FOLDERS = "rsm-short-seed"
"""Beginning of the folder names in results/."""
EPSILONS = (0.1, 0.2, 0.3, 0.4, 0.5)
MODELS = {
    "standard": "standard",
    "target-margin": "F, stage I over margins",
    "rsm-margin": "RSM, stage I over margins",
    "target-cross-entropy": "F, stage I over CE",
    "rsm-cross-entropy": "RSM, stage I over CE",
}
STAGES = {"margin": "margins", "cross-entropy": "CE"}
"""Folder of a stage I → what eq. 5 differentiates in it."""
METRICS = "metrics.jsonl"
"""In such a folder, kept beside the records: a line an epoch."""


def folder_at(folder: Path, eps: float) -> Path:
    return folder / f"eps-{eps:g}"


def rsm_sheet(folders: Sequence[Path]) -> Sheet:
    """A line a model and ε: white-box attacks, what transfers, and the worst case of all under `adaptive`."""
    lines, attacks = [], _attacks(folders)
    for model, label in MODELS.items():
        for eps in EPSILONS:
            grids = [grid(rows(folder_at(folder, eps))) for folder in folders if folder_at(folder, eps).exists()]
            seen = [spread(values(grids, "whitebox", model, name)) for name in attacks]
            ends = [spread(values(grids, protocol, model, "worst")) for protocol in ("transfer", "adaptive")]
            clean = spread(values(grids, "adaptive", model, "none"))
            if clean != "–":
                lines.append([label, f"{eps:g}", clean, *seen, *ends])
    titles = [column_titles()[name] for name in attacks]
    header = ["model", "ε", "clean", *titles, "transferred, worst", "adaptive, worst"]
    return Sheet(header, lines, "The RSM in F's place")


def _attacks(folders: Sequence[Path]) -> list[str]:
    seen = {name for folder in folders for name in columns(rows(folder_at(folder, EPSILONS[0])))}
    return [name for name in column_titles() if name in seen - {"none", "worst"}]


def course_sheet(folders: Sequence[Path]) -> Sheet:
    """A line an epoch of stage I: L_cl and L_rb, over margins and over CE, which say whether it left its course."""
    courses = {name: [_stage_one(folder / name / METRICS) for folder in folders] for name in STAGES}
    epochs = max((len(course) for each in courses.values() for course in each), default=0)
    lines = [
        [str(epoch + 1)]
        + [
            spread([course[epoch][loss] for course in courses[name] if epoch < len(course)], digits=2)
            for name in STAGES
            for loss in ("cl", "rb")
        ]
        for epoch in range(epochs)
    ]
    header = [f"{loss}, over {label}" for label in STAGES.values() for loss in ("L_cl", "L_rb")]
    return Sheet(["epoch", *header], lines, "Stage I's course")


def _stage_one(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["stage"] == "stage-one"]


def section(results: Path) -> list[str]:
    """The page's section; nothing where no such records are committed."""
    folders = sorted(results.glob(f"{FOLDERS}-*"))
    if not folders:
        return []
    config = json.loads((folder_at(folders[0], EPSILONS[0]) / "config.json").read_text())["config"]
    seeds = f"{len(folders)} seeds" if len(folders) > 1 else "one seed"
    return [
        "## Is the RSM robust?",
        f"`grfd reproduce rsm`: f_φ(x − G(x)) attacked end to end, in per cent; stage I {config['epochs']} epochs at a "
        f"learning rate of {config['learning_rate']:g}, {seeds}. The attacks' columns are `whitebox`; Square asks for "
        "logits alone; *transferred* is the worst case of what was made on the standard model and on the F's.",
        markdown(rsm_sheet(folders)),
        _flags(folders),
        "Stage I's losses, means of an epoch:",
        markdown(course_sheet(folders)),
    ]


def _flags(folders: Sequence[Path]) -> str:
    """What the masking checks say of each RSM, over seeds and ε."""
    lines = []
    for model, label in MODELS.items():
        found = [
            check.name
            for folder in folders
            for eps in EPSILONS
            for check in read_checks(folder_at(folder, eps))
            if check.model == model and check.flagged
        ]
        told = ", ".join(f"{name} ({found.count(name)})" for name in dict.fromkeys(found))
        lines.append(f"- {label}: {told or 'none'}")
    return "Masking flags, and in how many of the evaluations:\n\n" + "\n".join(lines)
