"""Variants of one schedule over seeds: Table 2, Figures 4a and 4b and the ablation of readings, as sheets of numbers.

A folder a seed (`judged/` of `grfd reproduce`, or its copy in results/) holds records, and in variants.json what each
variant's configuration changes: rows are found by what they change, never by name.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation.numbers import column_titles, grid, rows
from grfd.evaluation.paired import compared, probability
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.spread import Grid, averages, spread, values
from grfd.experiments.paper import FIGURE_4B, TABLE_2, TABLE_3
from grfd.report.sheets import Sheet

VARIANTS = "variants.json"
"""Variant → changes (fields of the configuration), deployed, the last epoch of stage I, seconds, how it diverged."""
PROTOCOLS: tuple[Protocol, ...] = ("transfer", "whitebox", "adaptive")

CASES: dict[str, dict[str, Any] | None] = {
    "1: no defense": None,
    "2: LVCVAE without RSM": {"gamma": 0.0, "delta": 0.0},
    "3: no rectification": {"epsilon": 0.0},
    "4: GRFD": {},
}
"""Fig. 4a's, as section 4.3 defines them: what differs from ε 0.6, γ 0.4, δ 0.2. None: the standard model."""

SHARES = tuple(range(10, 101, 10))
"""Fig. 4b's, in per cent of the training images."""

IMAGES = {"mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
"""Training images of the official data sets."""

READINGS: dict[str, dict[str, Any]] = {
    "the default": {},
    "KL: literal sum over d": {"kl": "sum"},
    "MSE: sum over pixels": {"reconstruction": "sum"},
    "σ of v 0.1": {"sigma": 0.1},
    "σ of v 0.3": {"sigma": 0.3},
    "v: CURE's direction, h 1": {"perturbation": "sign_gradient"},
    "RSM's gradient detached": {"rsm_gradient": "detached"},
    "z sampled at inference": {"latent_at_inference": "sampled"},
    "R_D drawn anew each epoch": {"robust_dataset": "every_epoch"},
    "sign-flipped training": {"game": "sign_flipped"},
    "F starts from the RSM": {"target_start": "rsm"},
    "RSM deployed in F's place": {"deployed": "rsm"},
    "cosine over CE gradients": {"gradient_of": "cross_entropy"},
    "L2 of eq. 4 over CE gradients": {"similarity": "l2", "gradient_of": "cross_entropy"},
}
"""Gaps of the paper and their alternatives, each one change of the default; `deployed` is no field of `Config`."""


@dataclass(frozen=True)
class Judged:
    """Records of one schedule, a folder a seed."""

    folders: list[Path]
    grids: list[Grid]
    variants: list[dict[str, dict[str, Any]]]


def read(folders: Sequence[Path]) -> Judged:
    found = [json.loads((folder / VARIANTS).read_text()) for folder in folders]
    return Judged(list(folders), [grid(rows(folder)) for folder in folders], found)


def name_of(judged: Judged, changes: dict[str, Any] | None) -> str | None:
    """The variant that changes this and nothing else; None where no seed has it."""
    if changes is None:
        return "standard"
    wanted = {"deployed": "target", **changes}
    for each in judged.variants:
        for name, about in each.items():
            if about["changes"] | {"deployed": about["deployed"]} == wanted:
                return name
    return None


def attacks_of(judged: Judged) -> list[str]:
    return [name for name in TABLE_1_ATTACKS if any(name in cells for each in judged.grids for cells in each.values())]


def _numbers(judged: Judged, protocol: str, model: str) -> list[list[float]]:
    """Clean, each attack, their average, the worst case; a value a seed."""
    attacks = attacks_of(judged)
    get = partial(values, judged.grids, protocol, model)
    return [
        get("none"),
        *(get(name) for name in attacks),
        averages(judged.grids, protocol, model, attacks),
        get("worst"),
    ]


def _header(judged: Judged) -> list[str]:
    return ["clean", *(column_titles()[name] for name in attacks_of(judged)), "average", "worst case"]


def _beside(numbers: list[list[float]], paper: dict[str, float], attacks: list[str]) -> list[str]:
    """Ours / the paper's, whose average is of the attacks that are there."""
    texts = [spread(each) for each in numbers]
    if not paper:
        return texts
    printed = [paper["none"], *(paper[name] for name in attacks), statistics.mean(paper[name] for name in attacks)]
    return [f"{ours} / {value:.1f}" for ours, value in zip(texts, printed, strict=False)] + texts[-1:]


def table_2(judged: Judged, protocol: Protocol) -> Sheet:
    """The published rows of Table 2, ours / the paper's, which are of MNIST."""
    attacks = attacks_of(judged)
    on_mnist = _config(judged)["data"] == "mnist"
    none = TABLE_3["mnist"]["standard"] if on_mnist else {}
    standard = _beside(_numbers(judged, protocol, "standard"), none, attacks)
    lines = [["standard", "", "", *standard]] if protocol != "transfer" else []
    for (epsilon, gamma, delta), paper in TABLE_2.items():
        name = name_of(judged, _differing(epsilon=epsilon, gamma=gamma, delta=delta))
        if name:
            numbers = _beside(_numbers(judged, protocol, name), paper if on_mnist else {}, attacks)
            lines.append([f"{epsilon:g}", f"{gamma:g}", f"{delta:g}", *numbers])
    return Sheet(["ε", "γ", "δ", *_header(judged)], lines, f"Table 2, {protocol}", left=3)


def _differing(**weights: float) -> dict[str, float]:
    """What differs from the paper's choice."""
    chosen = {"epsilon": 0.6, "gamma": 0.4, "delta": 0.2}
    return {name: value for name, value in weights.items() if value != chosen[name]}


def cases(judged: Judged) -> dict[Protocol, dict[str, list[list[float]]]]:
    """Fig. 4a: protocol → case → numbers in the columns of `_header`. Under transfer, case 1 is the 2nd standard."""
    named = {case: name_of(judged, changes) for case, changes in CASES.items()}
    return {
        protocol: {
            case: _numbers(
                judged, protocol, "second-standard" if name == "standard" and protocol == "transfer" else name
            )
            for case, name in named.items()
            if name
        }
        for protocol in PROTOCOLS
    }


def figure_4a(judged: Judged) -> Sheet:
    """The numbers behind Fig. 4a."""
    lines = [
        [protocol, case, *(spread(each) for each in numbers)]
        for protocol, found in cases(judged).items()
        for case, numbers in found.items()
    ]
    return Sheet(["protocol", "case", *_header(judged)], lines, "Figure 4a", left=2)


def shares(judged: Judged) -> dict[Protocol, dict[int, dict[str, list[float]]]]:
    """Fig. 4b: protocol → per cent of the training images → clean, average and worst case, a value a seed."""
    attacks = attacks_of(judged)
    found: dict[Protocol, dict[int, dict[str, list[float]]]] = {}
    for protocol in PROTOCOLS:
        for share in SHARES:
            name = name_of(judged, {} if share == 100 else {"train_examples": images_of(judged, share)})
            if name:
                get = partial(values, judged.grids, protocol, name)
                numbers = {"none": get("none"), "average": averages(judged.grids, protocol, name, attacks)}
                found.setdefault(protocol, {})[share] = numbers | {"worst": get("worst")}
    return found


def images_of(judged: Judged, share: int) -> int:
    """How many training images a share is: of the schedule's, which are all where it names none."""
    config = _config(judged)
    return (config["train_examples"] or IMAGES[config["data"]]) * share // 100


def _config(judged: Judged) -> dict[str, Any]:
    return json.loads((judged.folders[0] / "config.json").read_text())["config"]


def printed_in_figure_4b(judged: Judged) -> dict[int, dict[str, float]]:
    """The paper's numbers, which are of MNIST."""
    return FIGURE_4B if _config(judged)["data"] == "mnist" else {}


def figure_4b(judged: Judged) -> Sheet:
    """The numbers behind Fig. 4b, ours / the paper's where it says them."""
    lines, published = [], printed_in_figure_4b(judged)
    for protocol, found in shares(judged).items():
        for share, numbers in found.items():
            paper = published.get(share, {})
            texts = [
                spread(each) + (f" / {paper[name]:.1f}" if name in paper else "") for name, each in numbers.items()
            ]
            lines.append([protocol, f"{share} %", *texts])
    return Sheet(["protocol", "training images", "clean", "average", "worst case"], lines, "Figure 4b", left=2)


def readings(judged: Judged) -> Sheet:
    """The ablation of our readings: averages over the attacks under each protocol, and where stage I ended."""
    lines = []
    for label, changes in READINGS.items():
        name = name_of(judged, changes)
        if name:
            ends = [spread(_ends(judged, name, term), 2) for term in ("cl", "rb")]
            lines.append([label, *_compared(judged, name), *ends, _diverged(judged, name)])
    ends_of = [part for protocol in PROTOCOLS for part in (f"`{protocol}`, worst case", "p")]
    return Sheet(["reading", "clean", *ends_of, "L_cl", "L_rb", "diverged"], lines, "Readings of the paper's gaps")


def _compared(judged: Judged, name: str) -> list[str]:
    """Clean accuracy, and the worst case under each protocol with McNemar's p against the default."""
    default, texts = name_of(judged, {}), [spread(values(judged.grids, "adaptive", name, "none"))]
    folders = [folder for folder, each in zip(judged.folders, judged.grids, strict=True) if ("adaptive", name) in each]
    for protocol in PROTOCOLS:
        texts.append(spread(values(judged.grids, protocol, name, "worst")))
        if default is None or name == default or not folders:
            texts.append("")
        else:
            texts.append(probability(compared(folders, name, default, protocol).p_value))
    return texts


def rank_correlation(judged: Judged, protocol: Protocol) -> tuple[float, float] | None:
    """Spearman's, of our averages over the attacks with the paper's, over the rows of Table 2, and its p."""
    attacks, ours, papers = attacks_of(judged), [], []
    for (epsilon, gamma, delta), paper in TABLE_2.items():
        name = name_of(judged, _differing(epsilon=epsilon, gamma=gamma, delta=delta))
        if name:
            ours.append(statistics.mean(averages(judged.grids, protocol, name, attacks)))
            papers.append(statistics.mean(paper[attack] for attack in attacks))
    if len(ours) < len(TABLE_2):
        return None
    found = spearmanr(ours, papers)
    return float(found.statistic), float(found.pvalue)


def _ends(judged: Judged, name: str, term: str) -> list[float]:
    """A term of eq. 6 in the last epoch of stage I, a value a seed."""
    found = [(each.get(name) or {}).get("stage_one") or {} for each in judged.variants]
    return [stage[term] for stage in found if term in stage]


def _diverged(judged: Judged, name: str) -> str:
    count = sum("said" in each.get(name, {}) for each in judged.variants)
    return f"{count} of {sum(name in each for each in judged.variants)}"
