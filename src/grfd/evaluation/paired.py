"""Comparison of two models on the same examples, by their worst cases, from records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

from grfd.evaluation.numbers import column_titles
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.records import Record, path_of, read_record, worst_case


@dataclass(frozen=True)
class Paired:
    """Two defenses on the same examples: the numbers that only one of them classifies correctly under every attack."""

    examples: int
    ours_alone: int
    theirs_alone: int

    @property
    def difference(self) -> float:
        """Ours minus theirs, in percentage points."""
        return 100 * (self.ours_alone - self.theirs_alone) / self.examples

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test: the probability of a split at least as uneven if both are equally good."""
        split = self.ours_alone + self.theirs_alone
        return float(scipy.stats.binomtest(self.ours_alone, split).pvalue) if split else 1.0


def attacks_on(folders: Sequence[Path], *models: str) -> list[str]:
    """The attacks that are recorded for all of these models under `adaptive` in all folders, in order."""
    needed = [(folder, model) for folder in folders for model in models]
    return [name for name in column_titles() if all(path_of(*each, "adaptive", name).exists() for each in needed)]


def worst(folder: Path, model: str, attacks: Sequence[str], protocol: Protocol = "adaptive") -> np.ndarray:
    """Whether each example is classified correctly under all of the attacks."""
    return worst_case([_record(folder, model, protocol, attack) for attack in attacks])


def _record(folder: Path, model: str, protocol: Protocol, attack: str) -> Record:
    record = read_record(path_of(folder, model, protocol, attack))
    assert record is not None, f"there is no record of {attack} on {model} under {protocol}"
    return record


def shares_held(
    folders: Sequence[Path], model: str, attacks: Sequence[str], protocol: Protocol = "adaptive"
) -> list[float]:
    """For each seed, the share of examples that are classified correctly under all of the attacks, in per cent."""
    return [100 * float(worst(folder, model, attacks, protocol).mean()) for folder in folders]


def compared(
    folders: Sequence[Path], ours: str, theirs: str, protocol: Protocol = "adaptive", *, left_out: Sequence[str] = ()
) -> Paired:
    """Over all seeds, under the attacks that are recorded for both, without those in `left_out`.

    Networks of the same seed are judged on the same images.
    """
    attacks = [name for name in attacks_on(folders, ours, theirs) if name not in left_out]
    pairs = [[worst(folder, name, attacks, protocol) for name in (ours, theirs)] for folder in folders]
    first, second = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return Paired(len(first), int((first & ~second).sum()), int((second & ~first).sum()))


def probability(value: float) -> str:
    """A probability with three digits."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
