"""Gradient-masking checks: what must look right before a robust accuracy is believed (design: protocols).

Probes of each model on clean images (`probes`), and comparisons of what is recorded. Each check names what it saw.
"""

from dataclasses import dataclass
from pathlib import Path

from grfd.data.record import as_images
from grfd.evaluation import records
from grfd.evaluation.case import CONTROL, Case
from grfd.evaluation.probes import PROBES, TOLERANCE
from grfd.evaluation.records import Record
from grfd.progress import progress
from grfd.seeds import seeded

CHECKED_EXAMPLES = 200
"""Images of the split that each check is made on."""


@dataclass(frozen=True)
class Check:
    """What one check saw on one model."""

    model: str
    name: str
    flagged: bool
    detail: str


def run_checks(case: Case) -> list[Check]:
    """All checks, on the first images of the split and on what is recorded."""
    images = as_images(case.split.images[:CHECKED_EXAMPLES].to(case.device))
    labels = case.split.labels[:CHECKED_EXAMPLES].to(case.device)
    found = []
    judged = {name: model for name, model in case.models.items() if name != CONTROL}
    with progress("masking checks", len(judged) * len(PROBES)) as advance:
        for name, model in judged.items():
            for check, look in PROBES.items():
                with seeded(case.seed, "check", name, check):
                    flagged, detail = look(case, model, images, labels)
                found.append(Check(name, check, flagged, detail))
                advance(1, f"{name}: {check}")
    return found + [look for name in judged for look in on_records(case.folder, name)]


def on_records(folder: Path, model: str) -> list[Check]:
    """Whether attackers who know less got further: transferred attacks against white-box ones."""
    mine = {key[1:]: record for key, record in records.read_records(folder, model).items()}
    pairs = {attack: (mine.get(("whitebox", attack)), mine.get(("transfer", attack))) for _, attack in mine}
    return [
        _compared(model, "transfer beats white-box", attack, seeing, transferred)
        for attack, (seeing, transferred) in pairs.items()
        if seeing and transferred
    ]


def _compared(model: str, name: str, attack: str, seeing: Record, blind: Record) -> Check:
    shared = min(len(seeing), len(blind))
    strong, weak = (record.rows(0, shared).robust.mean() for record in (seeing, blind))
    detail = f"{attack}: {weak:.1%} right under the weaker attacker, {strong:.1%} under the stronger"
    return Check(model, name, bool(weak < strong - TOLERANCE), detail)
