"""The model card of an exported defense, in Hugging Face's format: what it is, its verdict, and how it is used."""

import json
from collections.abc import Sequence

from grfd.attacks.budgets import Ball
from grfd.defenses import DEFENSES
from grfd.evaluation.numbers import column_titles, counted
from grfd.evaluation.results import Check, Results, Row
from grfd.evaluation.stored import results_of
from grfd.report.sheets import Sheet, markdown
from grfd.runs import Run, provenance

_USE = {
    "pt2": """import torch

model = torch.export.load("model.pt2").module()
logits = model(images)  # float32 [batch, {shape}], pixels in [0, 1]""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(None, {{"images": images}})  # float32 [batch, {shape}], pixels in [0, 1]""",
    "safetensors": """import grfd
from safetensors.torch import load_file

model = grfd.load_defense(RUN, defense="{name}")  # the file holds the weights, and grfd builds the network
model.load_state_dict(load_file("model.safetensors"))""",
}
"""Suffix of the model's file → Python lines that use it."""


def model_card(run: Run, defense: str, file: str, shape: tuple[int, ...], classes: Sequence[str]) -> str:
    """The text of README.md: front matter in YAML, then whole sentences."""
    results = results_of(run.path, defense)
    title = DEFENSES[defense].TITLE
    suffix = file.rpartition(".")[2]
    sides = "×".join(map(str, shape))
    use = _USE[suffix].format(shape=", ".join(map(str, shape)), name=defense)
    parts = [
        _front_matter(run, defense),
        f"# {title} on {run.config.data}",
        f"`{file}` takes float32 images of {sides} (channels × height × width) with pixels in [0, 1], and answers with "
        f"one logit for each of {len(classes)} classes, whose names are in `classes.json`. Its preprocessing is part "
        "of it.",
        f"```python\n{use}\n```",
        "## Verdict",
        *_verdict(results),
        "## How it was made",
        f"Defense `{defense}`, network `{run.config.model}`, data `{run.config.data}`, seed {run.config.seed}. "
        f"{_versions()}",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(run: Run, defense: str) -> str:
    data = json.dumps(run.config.data)  # as YAML, a quoted text, whatever the data set is called
    lines = ["---", "library_name: grfd", "pipeline_tag: image-classification", "tags:",
             "- adversarial-robustness", f"- {defense}", f"datasets:\n- {data}", "---"]  # fmt: skip
    return "\n".join(lines)


def _verdict(results: Results | None) -> list[str]:
    rows = [] if results is None else [row for row in results.rows if row.target is None]
    if results is None or not rows:
        return ["This defense has not been judged: run `grfd evaluate` on its run folder, and export it again."]
    clean = next((row for row in rows if row.attack == "none"), None)
    lines = [["no attack", "–", _accuracy(clean), f"{clean.examples:,}"]] if clean else []
    lines += [
        [row.protocol, _threat(row), _accuracy(row), f"{row.examples:,}"] for row in rows if row.attack == "worst"
    ]
    attacks = ", ".join(column_titles().get(name, name) for name in _counted(rows))
    header = ["protocol", "threat", "accuracy in per cent [95 % interval]", "images"]
    return [
        f"Accuracy on test images under every attack ({attacks}) of a protocol at once. `adaptive` is the attacker who "
        "knows the defense, and the line to trust.",
        markdown(Sheet(header, lines, left=2)),
        *_flags([check for check in results.checks if check.flagged]),
    ]


def _counted(rows: list[Row]) -> list[str]:
    """The attacks that count in any of the worst cases."""
    names = (
        name
        for worst in rows
        if worst.attack == "worst"
        for name in counted(worst, [row for row in rows if _line_of(row) == _line_of(worst)])
    )
    return list(dict.fromkeys(names))


def _line_of(row: Row) -> tuple[object, ...]:
    return row.protocol, row.norm, row.eps


def _threat(row: Row) -> str:
    return "ε of Table 1" if row.norm is None or row.eps is None else str(Ball(row.norm, row.eps))  # type: ignore[arg-type]


def _accuracy(row: Row) -> str:
    low, high = row.interval
    return f"{100 * row.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _flags(flagged: Sequence[Check]) -> list[str]:
    if not flagged:
        return ["No check for gradient masking raised a flag."]
    lines = "\n".join(f"- {check.name}: {check.detail}" for check in flagged)
    return [f"These checks for gradient masking raised a flag, so the accuracies may be too high:\n\n{lines}"]


def _versions() -> str:
    about = provenance()
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return f"Exported with {versions}, grfd at revision {str(about['git_revision'])[:7]}."
