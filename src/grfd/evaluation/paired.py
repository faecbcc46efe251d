"""Two models on the same examples: worst cases compared example by example, from records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from grfd.evaluation.numbers import column_titles
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.records import Record, path_of, read_record, worst_case


@dataclass(frozen=True)
class Paired:
    """Two defenses on the same examples: how many are right under every attack with one of them alone."""

    examples: int
    ours_alone: int
    theirs_alone: int

    @property
    def difference(self) -> float:
        """Ours less theirs, in points."""
        return 100 * (self.ours_alone - self.theirs_alone) / self.examples

    @property
    def p_value(self) -> float:
        """McNemar's exact test: both being as good, how probable so uneven a split is, or a more uneven one."""
        split = self.ours_alone + self.theirs_alone
        return float(binomtest(self.ours_alone, split).pvalue) if split else 1.0


def attacks_on(folders: Sequence[Path], *models: str) -> list[str]:
    """The attacks that were run on every one of these models under `adaptive`, in every folder, in order."""
    needed = [(folder, model) for folder in folders for model in models]
    return [name for name in column_titles() if all(path_of(*each, "adaptive", name).exists() for each in needed)]


def worst(folder: Path, model: str, attacks: Sequence[str], protocol: Protocol = "adaptive") -> np.ndarray:
    """Whether each example is right under every one of the attacks."""
    return worst_case([_record(folder, model, protocol, attack) for attack in attacks])


def _record(folder: Path, model: str, protocol: Protocol, attack: str) -> Record:
    found = read_record(path_of(folder, model, protocol, attack))
    assert found is not None, f"{model} has not met {attack} under {protocol}"
    return found


def shares_held(
    folders: Sequence[Path], model: str, attacks: Sequence[str], protocol: Protocol = "adaptive"
) -> list[float]:
    """Share of the examples that are right under every one of the attacks, in per cent, a value a seed."""
    return [100 * float(worst(folder, model, attacks, protocol).mean()) for folder in folders]


def compared(
    folders: Sequence[Path], ours: str, theirs: str, protocol: Protocol = "adaptive", *, left_out: Sequence[str] = ()
) -> Paired:
    """Over all seeds, by the attacks that both have met but those left out.

    Networks of the same seed face the same images.
    """
    attacks = [name for name in attacks_on(folders, ours, theirs) if name not in left_out]
    pairs = [[worst(folder, name, attacks, protocol) for name in (ours, theirs)] for folder in folders]
    first, second = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return Paired(len(first), int((first & ~second).sum()), int((second & ~first).sum()))


def probability(value: float) -> str:
    """Three digits."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
