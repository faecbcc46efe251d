"""Findings of the probes that an earlier evaluation of the same folder made, and that are still true.

A probe sees a model and images, and no records. Where both, the settings and the code are the same, its finding is the
same, and making it again would be time thrown away: an experiment judges its standard models beside every defense.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from grfd.errors import UserError
from grfd.evaluation.case import CONTROL, Case
from grfd.evaluation.identity import marks_of
from grfd.evaluation.probes import PROBES
from grfd.evaluation.results import Check
from grfd.evaluation.stored import read_checks, read_evaluation

MARKS = "checked"
"""The field of evaluation.json with the mark of each model whose probes are in results.json."""


def marks_of_checks(case: Case, examples: int, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Model → a hash of all on which its findings depend: model, images, settings, versions and machine.

    It is empty where the package has uncommitted changes, because its code is then not known. For the same reason a
    model with layers of a user's own has no mark: their code may have changed, though weights and answers have not.
    """
    if str(provenance["git_revision"]).endswith("+"):
        return {}
    labels = case.split.labels[:examples].tolist()
    common = [marks_of(case.split.images[:examples]).tolist(), labels, case.seed, str(case.device), case.budgets]
    common.append(provenance)
    names = [name for name, model in case.models.items() if name != CONTROL and name in case.identities
             and all(_is_of_known_code(module) for module in model.modules())]  # fmt: skip
    return {
        name: _hash([*common, case.identities[name], case.scales.get(name), case.passes.get(name)]) for name in names
    }


def _is_of_known_code(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] in ("torch", "grfd")


def earlier_checks(folder: Path, marks: Mapping[str, str]) -> dict[str, list[Check]]:
    """Model → its findings of the last evaluation of a folder, for each model whose mark is still the same."""
    before = marks_before(folder)
    same = [name for name, mark in marks.items() if before.get(name) == mark]
    found = read_checks(folder) if same else ()
    listed = {name: [check for check in found if check.model == name and check.name in PROBES] for name in same}
    return {name: checks for name, checks in listed.items() if [check.name for check in checks] == list(PROBES)}


def marks_before(folder: Path) -> dict[str, str]:
    """The marks in evaluation.json; none if there is no such file or it is damaged."""
    if not (folder / "evaluation.json").exists() or not (folder / "results.json").exists():
        return {}
    try:
        marks = read_evaluation(folder).get(MARKS)
    except UserError:  # the evaluation that is under way writes the file anew
        return {}
    return marks if isinstance(marks, dict) else {}


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
