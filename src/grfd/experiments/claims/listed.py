"""The claims, in the order of the paper: what it says and prints, and which records and which comparison test it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation.numbers import grid, rows
from grfd.evaluation.protocols import Protocol
from grfd.experiments.claims import measure
from grfd.experiments.claims.measure import ClaimNumbers, average, clean
from grfd.experiments.fig4b import changes_of_share
from grfd.experiments.long_run import LONG
from grfd.experiments.paper import FIGURE_4B, TABLE_2, TABLE_3
from grfd.experiments.table3.page_section import folders_of
from grfd.experiments.variant_records import VariantRecords, committed_variants

ClaimKind = Literal["share", "gain", "cost", "loss"]
"""What a claim says: a share is that high; a difference is above 0; it falls by no more than that; it is below 0."""


@dataclass(frozen=True)
class Claim:
    """One claim. `paper`: the number that the paper prints, in per cent or points; None if it prints none.

    `evidence`: a name in `EVIDENCE`. `clean`: whether it is about clean accuracy, so that the attacker does not matter.
    `judged`: whether a line has a verdict; those of networks or schedules that answer another question have none.
    """

    words: str
    place: str
    paper: float | None
    evidence: str
    measure: Callable[[VariantRecords, Protocol], ClaimNumbers | None]
    kind: ClaimKind = "gain"
    clean: bool = False
    judged: bool = True


def _long(results: Path) -> VariantRecords | None:
    folder = results / LONG
    return VariantRecords([folder], [grid(rows(folder))], []) if (folder / "config.json").exists() else None


def _table3(results: Path, data: str) -> VariantRecords | None:
    folders = folders_of(results, data)
    return VariantRecords(folders, [grid(rows(folder)) for folder in folders], []) if folders else None


EVIDENCE: dict[str, Callable[[Path], VariantRecords | None]] = {
    "mnist-lenet5": _long,
    "table3": partial(_table3, data="mnist"),
    "table3 cifar10": partial(_table3, data="cifar10"),
    "table3 cifar100": partial(_table3, data="cifar100"),
    "variants": committed_variants,
}
"""Name → results → the committed records; None if there are none."""


def _average(model: str, data: str = "mnist") -> float:
    """The paper's average over the five attacks. Table 3 prints it with two digits."""
    return round(statistics.mean(TABLE_3[data][model][name] for name in TABLE_1_ATTACKS), 2)


def _gain(data: str) -> float:
    return _average("grfd", data) - _average("standard", data)


def _clean_gain(data: str) -> float:
    return TABLE_3[data]["grfd"]["none"] - TABLE_3[data]["standard"]["none"]


def _row(*weights: float) -> float:
    """The average of a row of Table 2 over the five attacks."""
    return statistics.mean(TABLE_2[weights[0], weights[1], weights[2]][name] for name in TABLE_1_ATTACKS)


_CHOSEN = (0.6, 0.4, 0.2)
_TENTH = changes_of_share(10, None, "mnist")
_WITHOUT_RSM = {"gamma": 0.0, "delta": 0.0}
_WITHOUT_HEAD = {"epsilon": 0.0}
_ABOVE_NONE = partial(measure.above_none, column=average)
_CLEAN_ABOVE_NONE = partial(measure.above_none, column=clean)
_ABOVE_BEST = partial(measure.above_best, column=average)


def _on_colour(data: str, title: str, rival: str) -> list[Claim]:
    """The claims on a data set on which only small networks were trained."""
    claim = partial(Claim, evidence=f"table3 {data}", judged=False)
    ours = _average("grfd", data)
    return [
        claim(f"GRFD keeps {ours:.2f} % on {title}, on average over five attacks", "abstract, 4.5", ours,
              measure=measure.kept, kind="share"),
        claim(f"On {title}, GRFD keeps more than no defense", "4.5", _gain(data), measure=_ABOVE_NONE),
        claim(f"On {title}, clean accuracy falls only a little", "abstract, 4.5, 4.6", _clean_gain(data),
              measure=_CLEAN_ABOVE_NONE, kind="cost", clean=True),
        claim(f"On {title}, GRFD keeps more than each rival", "4.5", ours - _average(rival, data), measure=_ABOVE_BEST),
    ]  # fmt: skip


_VARIANTS = partial(Claim, evidence="variants")

CLAIMS: list[Claim] = [
    Claim("GRFD keeps 93.69 % on MNIST, on average over five attacks", "abstract, 4.5", _average("grfd"),
          "mnist-lenet5", measure.kept, "share"),
    Claim("On MNIST, GRFD keeps more than no defense", "4.3, 4.5", _gain("mnist"), "mnist-lenet5", _ABOVE_NONE),
    Claim("On MNIST, clean accuracy falls only a little", "abstract, 4.5, 4.6", _clean_gain("mnist"), "mnist-lenet5",
          _CLEAN_ABOVE_NONE, "cost", clean=True),
    Claim("On MNIST, GRFD keeps more than each rival", "4.5", _average("grfd") - _average("diffpure"), "table3",
          _ABOVE_BEST),
    Claim("On MNIST, its clean accuracy is higher than that of each rival", "4.5",
          TABLE_3["mnist"]["grfd"]["none"] - TABLE_3["mnist"]["randomized-smoothing"]["none"], "table3",
          partial(measure.above_best, column=clean), clean=True),
    *_on_colour("cifar10", "CIFAR-10", "diffpure"),
    *_on_colour("cifar100", "CIFAR-100", "ape-gan"),
    _VARIANTS("ε = 0.6, γ = 0.4, δ = 0.2 keeps more than each other row of Table 2", "4.2",
              _row(*_CHOSEN) - _row(0.7, 0.4, 0.2), measure=partial(measure.above_all_rows, column=average)),
    _VARIANTS("Its clean accuracy is the highest, too", "4.2",
              TABLE_2[_CHOSEN]["none"] - TABLE_2[0.7, 0.4, 0.2]["none"],
              measure=partial(measure.above_all_rows, column=clean), clean=True),
    _VARIANTS("δ = 0.2 keeps more than δ = 0, which is without L_rb", "4.2", _row(*_CHOSEN) - _row(0.6, 0.4, 0.0),
              measure=partial(measure.above_variant, changes={"delta": 0.0}, column=average)),
    _VARIANTS("δ = 0.2 keeps more than δ = 0.4", "4.2", _row(*_CHOSEN) - _row(0.6, 0.4, 0.4),
              measure=partial(measure.above_variant, changes={"delta": 0.4}, column=average)),
    _VARIANTS("L_rb costs clean accuracy (Table 2 prints a gain of 0.31)", "4.6", None, kind="loss", clean=True,
              measure=partial(measure.above_variant, changes={"delta": 0.0}, column=clean)),
    _VARIANTS("The RSM is necessary: the whole keeps more than case 2, which lacks it", "4.3", None,
              measure=partial(measure.above_variant, changes=_WITHOUT_RSM, column=average)),
    _VARIANTS("A single part can be worse than no defense: case 2 keeps less", "4.3", None, kind="loss",
              measure=partial(measure.variant_above_none, changes=_WITHOUT_RSM, column=average)),
    _VARIANTS("The rectification head helps: the whole keeps more than case 3, which lacks it", "4.3", None,
              measure=partial(measure.above_variant, changes=_WITHOUT_HEAD, column=average)),
    _VARIANTS("The rectification head raises clean accuracy", "4.3", None, clean=True,
              measure=partial(measure.above_variant, changes=_WITHOUT_HEAD, column=clean)),
    _VARIANTS("The whole keeps more than no defense, on this schedule", "4.3", _gain("mnist"),
              measure=partial(measure.variant_above_none, changes={}, column=average)),
    _VARIANTS("With 10 % of the images, clean accuracy falls by only 3.62 points", "4.4",
              FIGURE_4B[10]["none"] - FIGURE_4B[100]["none"], kind="cost", clean=True, judged=False,
              measure=partial(measure.variant_less_whole, changes=_TENTH, column=clean)),
    _VARIANTS("With 10 % of the images, the average under attack falls by only 6.37 points", "4.4",
              FIGURE_4B[10]["average"] - FIGURE_4B[100]["average"], kind="cost", judged=False,
              measure=partial(measure.variant_less_whole, changes=_TENTH, column=average)),
]  # fmt: skip
