"""The claims, in the order of the paper: what it says and prints, and which records and which comparison test it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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


@dataclass(frozen=True)
class Claim:
    """One claim. `paper`: the number that the paper prints, in per cent or points; None if it prints none.

    `evidence`: a name in `EVIDENCE`. `difference`: whether the number is a difference, so that the other sign refutes
    it. `judged`: whether the records are of the paper's networks; if not, a line has no verdict.
    """

    words: str
    place: str
    paper: float | None
    evidence: str
    measure: Callable[[VariantRecords, Protocol], ClaimNumbers | None]
    difference: bool = True
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


def _on_colour(data: str, title: str) -> list[Claim]:
    evidence = f"table3 {data}"
    gain = partial(measure.above_none, column=average)
    return [
        Claim(f"GRFD keeps {_average('grfd', data):.2f} % on {title}, on average over five attacks", "abstract, 4.5",
              _average("grfd", data), evidence, measure.kept, difference=False, judged=False),
        Claim(f"On {title} that is a gain over no defense", "4.5", _gain(data), evidence, gain, judged=False),
    ]  # fmt: skip


CLAIMS: list[Claim] = [
    Claim("GRFD keeps 93.69 % on MNIST, on average over five attacks", "abstract, 4.5", _average("grfd"),
          "mnist-lenet5", measure.kept, difference=False),
    Claim("That is a gain over no defense", "4.3, 4.5", _gain("mnist"), "mnist-lenet5",
          partial(measure.above_none, column=average)),
    Claim("Clean accuracy falls only a little", "abstract, 4.5, 4.6", _clean_gain("mnist"), "mnist-lenet5",
          partial(measure.above_none, column=clean)),
    Claim("GRFD keeps more than each of seven rivals on MNIST: gain over the best", "4.5",
          _average("grfd") - _average("diffpure"), "table3", measure.above_best),
    *_on_colour("cifar10", "CIFAR-10"),
    *_on_colour("cifar100", "CIFAR-100"),
    Claim("ε = 0.6, γ = 0.4, δ = 0.2 is the best row of Table 2: gain over the best other row", "4.2",
          _row(*_CHOSEN) - _row(0.7, 0.4, 0.2), "variants", measure.above_all_rows),
    Claim("L_rb (δ = 0.2 in place of 0) raises the average under attack", "4.2", _row(*_CHOSEN) - _row(0.6, 0.4, 0.0),
          "variants", partial(measure.above_variant, changes={"delta": 0.0}, column=average)),
    Claim("The RSM is necessary: gain of the whole over case 2", "4.3", None, "variants",
          partial(measure.above_variant, changes=_WITHOUT_RSM, column=average)),
    Claim("The rectification head raises the average under attack: gain of the whole over case 3", "4.3", None,
          "variants", partial(measure.above_variant, changes=_WITHOUT_HEAD, column=average)),
    Claim("It raises clean accuracy as well", "4.3", None, "variants",
          partial(measure.above_variant, changes=_WITHOUT_HEAD, column=clean)),
    Claim("The whole keeps more than no defense (case 4 less case 1)", "4.3", None, "variants",
          partial(measure.variant_above_none, changes={}, column=average)),
    Claim("With 10 % of the images, clean accuracy falls by only 3.62 points", "4.4",
          FIGURE_4B[10]["none"] - FIGURE_4B[100]["none"], "variants",
          partial(measure.variant_less_whole, changes=_TENTH, column=clean)),
    Claim("With 10 % of the images, the average under attack falls by only 6.37 points", "4.4",
          FIGURE_4B[10]["average"] - FIGURE_4B[100]["average"], "variants",
          partial(measure.variant_less_whole, changes=_TENTH, column=average)),
]  # fmt: skip
