"""Checks for gradient masking: reasons not to believe a robust accuracy.

There are probes of each model (`grfd.evaluation.probes`) and comparisons of records. Each check says what it measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from grfd.attacks.budgets import Ball
from grfd.attacks.pass_size import passes_of
from grfd.data.record import as_images
from grfd.evaluation import records
from grfd.evaluation.case import CONTROL, Case, task_at
from grfd.evaluation.findings import is_large
from grfd.evaluation.probes import PROBES, TOLERANCE
from grfd.evaluation.records import Record
from grfd.evaluation.results import Check, Row
from grfd.evaluation.threat_rows import threat_rows
from grfd.progress import progress
from grfd.seeds import seeded

CHECKED_EXAMPLES = 200
"""Number of images for each check, counted from the first of the split."""

_PASSES_OF_CHECKS = 1_300
"""Forward passes per image of all probes of large images together, where a gradient is `_PASSES_OF_A_GRADIENT`."""

_LEAST_CHECKED = 4

_PASSES_OF_A_GRADIENT = 3
"""A gradient counts as one forward pass in records, and takes about as long as three."""


def checked_examples(case: Case) -> int:
    """How many images are checked. With larger images the number falls, so that checks take no longer than the attacks.

    What the attacks took follows from their records, so that the number is the same in every run. A few images are
    always checked.
    """
    if not is_large(case.split.images[:1]):
        return CHECKED_EXAMPLES
    queries: dict[str, float] = {}
    for root in records.roots_of(case.folder):
        for (model, *_), record in records.read_records(case.folder, root=root).items():
            queries[model] = queries.get(model, 0.0) + float(record.columns["queries"].sum())
    most = _PASSES_OF_A_GRADIENT * max((queries[name] for name in case.models if name in queries), default=0.0)
    return max(min(int(most) // _PASSES_OF_CHECKS, CHECKED_EXAMPLES), _LEAST_CHECKED)


def run_checks(
    case: Case, examples: int = CHECKED_EXAMPLES, known: Mapping[str, Sequence[Check]] | None = None
) -> list[Check]:
    """All checks of all models, on the first images of the split and on the records.

    `known`: model → the findings of all its probes, which are then not made again.
    """
    known = known or {}
    images = as_images(case.split.images[:examples].to(case.device))
    labels = case.split.labels[:examples].to(case.device)
    checks: list[Check] = []
    judged = {name: model for name, model in case.models.items() if name != CONTROL}
    with progress("masking checks", len(judged.keys() - known.keys()) * len(PROBES)) as advance:
        for name, model in judged.items():
            if name in known:
                checks += known[name]
                continue
            for check_name, probe in PROBES.items():
                with seeded(case.seed, "check", name, check_name), passes_of(case.passes.get(name)):
                    flagged, detail = probe(case, model, images, labels)
                checks.append(Check(name, check_name, flagged, detail))
                advance(1, f"{name}: {check_name}")
    return checks + [check for name in judged for check in on_records(case.folder, name)]


def on_records(folder: Path, model: str) -> list[Check]:
    """Comparisons of attackers: does one who knows less, under `transfer`, find more than one under `whitebox`?"""
    compared = [check for root in records.roots_of(folder) for check in _on_records_at(folder, model, root)]
    return compared + _ends_of_curves(folder, model)


GREY_EVERYWHERE = 0.5
"""Within this ε in L∞ every image can be made uniformly grey."""


def _ends_of_curves(folder: Path, model: str) -> list[Check]:
    """Whether each robustness curve ends near 0. It is flagged if it does not although every image can be grey."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in threat_rows(folder):
        if row.model == model and row.attack == "worst" and row.target is None and row.norm is not None:
            lines.setdefault((row.norm, row.protocol), []).append(row)
    checks = []
    for (norm, protocol), line in lines.items():
        last = max(line, key=lambda row: row.eps or 0.0)
        if len(line) > 1 and protocol in ("whitebox", "adaptive"):
            grey = last.norm == "linf" and (last.eps or 0.0) >= GREY_EVERYWHERE
            detail = f"{protocol}, {Ball(norm, last.eps or 0.0)}: {last.accuracy:.1%} right at the largest ε"  # type: ignore[arg-type]
            hint = "" if last.accuracy <= NEAR_ZERO else "; a larger ε shows whether the curve reaches 0"
            checks.append(Check(model, "curve ends near 0", grey and last.accuracy > NEAR_ZERO, detail + hint))
    return checks


NEAR_ZERO = 0.01
"""The accuracy up to which a curve counts as ended."""


def _on_records_at(folder: Path, model: str, root: str) -> list[Check]:
    """The comparisons of one threat model."""
    task = task_at(root, model, "", "")
    threat = ("" if task.ball is None else f", {task.ball}") + ("" if task.target is None else f", to {task.target}")
    mine = {key[1:]: record for key, record in records.read_records(folder, model, root).items()}
    pairs = {attack: (mine.get(("whitebox", attack)), mine.get(("transfer", attack))) for _, attack in mine}
    return [
        _compared(model, "transfer beats white-box", attack + threat, seeing, transferred)
        for attack, (seeing, transferred) in pairs.items()
        if seeing and transferred
    ]


def _compared(model: str, name: str, attack: str, seeing: Record, blind: Record) -> Check:
    shared = min(len(seeing), len(blind))
    strong, weak = (record.rows(0, shared).robust.mean() for record in (seeing, blind))
    detail = f"{attack}: {weak:.1%} right under the weaker attacker, {strong:.1%} under the stronger"
    return Check(model, name, bool(weak < strong - TOLERANCE), detail)
