"""Comparison of two models on the same examples, by their worst cases, from records."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grfd.evaluation.intervals import bootstrap, sign_flip_p_value
from grfd.evaluation.numbers import column_titles
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.records import Record, path_of, read_record, worst_case
from grfd.evaluation.spread import with_interval_text


@dataclass(frozen=True, eq=False)
class Paired:
    """Two defenses on the same images, by their worst cases. `differences`: ours less theirs, an array for each seed.

    An image's difference is 1 where only ours is right under every attack, and −1 where only theirs is.
    """

    differences: list[np.ndarray]

    @property
    def images(self) -> int:
        return len(self.differences[0])

    @property
    def ours_alone(self) -> int:
        """How many images only ours classifies correctly, counted over all seeds."""
        return int(sum((each > 0).sum() for each in self.differences))

    @property
    def theirs_alone(self) -> int:
        """How many images only theirs classifies correctly, counted over all seeds."""
        return int(sum((each < 0).sum() for each in self.differences))

    @property
    def difference(self) -> float:
        """Ours minus theirs, in percentage points."""
        return 100 * float(np.mean(self.differences))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, in percentage points, by resampling images."""
        low, high = bootstrap(self.differences)
        return 100 * low, 100 * high

    @property
    def p_value(self) -> float:
        """The probability of a difference at least as large if both are equally good (`sign_flip_p_value`)."""
        return sign_flip_p_value(self.differences)


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


def held_text(folders: Sequence[Path], model: str, attacks: Sequence[str], protocol: Protocol = "adaptive") -> str:
    """`shares_held` as mean ± standard deviation over seeds, with the 95 % interval by image."""
    return with_interval_text([worst(folder, model, attacks, protocol) for folder in folders])


def compared(
    folders: Sequence[Path], ours: str, theirs: str, protocol: Protocol = "adaptive", *, left_out: Sequence[str] = ()
) -> Paired:
    """Over the images that all seeds have, under the attacks that are recorded for both, without those in `left_out`.

    Networks of all seeds are judged on the same images, so that the seeds of an image stay together.
    """
    attacks = [name for name in attacks_on(folders, ours, theirs) if name not in left_out]
    pairs = [[worst(folder, name, attacks, protocol) for name in (ours, theirs)] for folder in folders]
    shared = min(len(each) for pair in pairs for each in pair)
    return Paired([first[:shared].astype(int) - second[:shared].astype(int) for first, second in pairs])


def points_text(pair: Paired) -> str:
    """The difference in points, with its 95 % interval."""
    low, high = pair.interval
    return f"{pair.difference:+.2f} [{low:+.2f}, {high:+.2f}]"


def probability(value: float) -> str:
    """A probability with three digits."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
