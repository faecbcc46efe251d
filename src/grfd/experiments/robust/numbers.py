"""GRFD robust beside adversarial training: from the records of `grfd reproduce robust`, compared example by example."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from grfd.evaluation.case import CONTROL, SOURCE
from grfd.evaluation.numbers import column_titles, grid, rows
from grfd.evaluation.paired import attacks_on, compared, probability, shares_held
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.spread import Grid, spread, values
from grfd.report.sheets import Sheet
from grfd.report.style import COLUMN, saved, styled

CONTENDERS = "contenders.json"
"""In such a folder: name → group, defense, recipe, changes of the configuration, gradients that training took for each
image, and whether it is a finalist, chosen before the test images were looked at."""
PROTOCOLS: tuple[Protocol, ...] = ("transfer", "whitebox", "adaptive")
OURS = "GRFD robust"
"""The group that the others are compared with."""
RESIDUAL_F = "PGD-AT, residual F"
"""Of another target model alone, residual in place of LeNet5: a group of its own."""
LARGEST = "fgsm"
"""The attack of the largest ε in Table 1: in one step it may do more than a hundred at a smaller one."""
AIM, AIM_CLEAN = 0.5, {"mnist": " at 98.82 % clean"}
"""What was aimed at: so many points more than PGD-AT and TRADES in the worst case, at so high a clean accuracy."""
PUBLISHED = "GRFD as published"
TRANSFER = "`transfer`, worst"
ALONE = ("right with ours alone", "right with theirs alone")
"""Columns that a terminal has no room for."""
IN_SHORT = (PUBLISHED, OURS, "control", "PGD-AT", "TRADES")
"""Groups of the short table."""


def contenders(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Those that every seed has: one that was added later is shown when the last seed has it."""
    first, *others = [json.loads((folder / CONTENDERS).read_text()) for folder in folders]
    return {name: about for name, about in first.items() if all(name in each for each in others)}


def strongest(folders: Sequence[Path], group: str, *, finalists: bool = False) -> str | None:
    """The group's contender with the highest mean worst case, by the attacks that all have met.

    `finalists`: of those alone, where the group has any.
    """
    found = contenders(folders)
    attacks = attacks_on(folders, *found)
    names = [name for name, about in found.items() if about["group"] == group]
    final = [name for name in names if finalists and found[name]["finalist"]]
    return max(final or names, key=lambda name: statistics.mean(shares_held(folders, name, attacks)), default=None)


def best_of(folders: Sequence[Path], group: str) -> str | None:
    """What stands for the group: its finalist, which was chosen before the test images were looked at."""
    return strongest(folders, group, finalists=True)


def with_most_attacks(folders: Sequence[Path]) -> list[Path]:
    """The seeds whose finalists have met all that any seed's have."""
    met = [len(attacks_on([folder], SOURCE)) for folder in folders]
    return [folder for folder, count in zip(folders, met, strict=True) if count == max(met)]


def short_sheet(folders: Sequence[Path]) -> Sheet:
    """A line a group, its best: clean, worst case under `transfer` and `adaptive`, by the attacks that all have met."""
    names = {group: best_of(folders, group) for group in IN_SHORT}
    found = {group: name for group, name in names.items() if name}
    grids = [grid(rows(folder)) for folder in folders]
    attacks = attacks_on(folders, SOURCE, *found.values())
    # what was made on the standard model is no transfer to it: another undefended model stands in
    lines = []
    for group, name, receiver in [("none", SOURCE, CONTROL), *((group, name, name) for group, name in found.items())]:
        clean = values(grids, "adaptive", name, "none")
        worsts = shares_held(folders, receiver, attacks, "transfer"), shares_held(folders, name, attacks)
        lines.append([group, *(spread(each) for each in (clean, *worsts))])
    header = ["defense", "clean", "`transfer`, worst case", "`adaptive`, worst case"]
    return Sheet(header, lines, f"Worst of {', '.join(column_titles()[name] for name in attacks)}")


def robust_sheet(folders: Sequence[Path]) -> Sheet:
    """A line a contender under `adaptive`: clean, each attack, and worst cases.

    The worst case is by the attacks that all have met, then, where some have met more, by all that this one has met;
    last, that of `transfer`.
    """
    grids = [grid(rows(folder)) for folder in folders]
    common = attacks_on(folders, *contenders(folders))
    attacks = attacks_on(folders, SOURCE)
    some_met_more = len(common) < len(attacks)
    lines = []
    for name, about in {SOURCE: {"gradients": ""}, **contenders(folders)}.items():
        mine = attacks_on(folders, name)
        seen = [spread(values(grids, "adaptive", name, attack)) for attack in ("none", *attacks)]
        of_all = [spread(shares_held(folders, name, mine)) if len(mine) > len(common) else "–"] if some_met_more else []
        transferred = [] if name == SOURCE else shares_held(folders, name, mine, "transfer")
        lines.append(
            [
                name,
                str(about["gradients"]),
                *seen,
                spread(shares_held(folders, name, common)),
                *of_all,
                spread(transferred),
            ]
        )
    worsts = [_worst_of(common), "worst of all"] if some_met_more else [f"worst of the {len(attacks)}"]
    header = ["model", "gradients", "clean", *(column_titles()[name] for name in attacks), *worsts, TRANSFER]
    return Sheet(header, lines, "Adaptive")


def in_brief(sheet: Sheet) -> Sheet:
    """Without single attacks, `transfer`, counts, and the gradients that all spend: a terminal is narrow."""
    left_out = {"gradients", TRANSFER, *ALONE, *column_titles().values()} - {column_titles()["none"]}
    kept = [index for index, name in enumerate(sheet.header) if name not in left_out]
    return replace(
        sheet,
        header=[sheet.header[index] for index in kept],
        rows=[[row[index] for index in kept] for row in sheet.rows],
    )


def _worst_of(attacks: Sequence[str]) -> str:
    return f"worst of {', '.join(column_titles()[name] for name in attacks)}"


def verdict(folders: Sequence[Path]) -> list[str]:
    """How far the finalist of ours is from `AIM` and `AIM_CLEAN`, and what the control says of GRFD's terms.

    A line a group, by whichever of it keeps most, all seeds together.
    """
    ours = best_of(folders, OURS)
    if ours is None:
        return []
    grids = [grid(rows(folder)) for folder in folders]
    aim_clean = AIM_CLEAN.get(config_of(folders)["data"], "")
    aim = f"Aimed at: {AIM} points more than PGD-AT and TRADES{aim_clean}. {ours} is at {_clean(grids, ours)}."
    lines = []
    for group in ("PGD-AT", RESIDUAL_F, "TRADES", "control"):
        name = strongest(folders, group)
        if name is not None:
            found = compared(folders, ours, name)
            chance = "" if found.p_value < 0.05 else ", which may be chance"
            told = f"{found.difference:+.2f} points (p {probability(found.p_value)}{chance})"
            lines.append(f"- beside {name}, the strongest {group}, at {_clean(grids, name)}: {told}")
    return [aim, "\n".join(lines)]


def _clean(grids: Sequence[Grid], name: str) -> str:
    return f"{statistics.mean(values(grids, 'adaptive', name, 'none')):.2f} % clean"


def paired_sheet(folders: Sequence[Path]) -> Sheet:
    """The best of ours against every other contender, example by example; last, without the attack of the largest ε."""
    ours, lines = best_of(folders, OURS), []
    for name in contenders(folders):
        if ours is not None and name != ours:
            found = compared(folders, ours, name)
            counts = [str(found.ours_alone), str(found.theirs_alone)]
            lines.append([name, f"{found.difference:+.2f}", *counts, probability(found.p_value)])
            lines[-1] += _without_largest(folders, ours, name)
    shown = f"without {column_titles()[LARGEST]}"
    header = [f"{ours} less", "points", *ALONE, "p", f"points {shown}", f"p {shown}"]
    return Sheet(header, lines, "Worst case under adaptive, example by example")


def _without_largest(folders: Sequence[Path], ours: str, theirs: str) -> list[str]:
    if attacks_on(folders, ours, theirs) == [LARGEST]:
        return ["–", "–"]
    found = compared(folders, ours, theirs, left_out=[LARGEST])
    return [f"{found.difference:+.2f}", probability(found.p_value)]


def decided_by_largest(folders: Sequence[Path]) -> list[str]:
    """Contenders whose worst case is that of the attack of the largest ε, alone, on every seed."""
    return [
        name
        for name in contenders(folders)
        if shares_held(folders, name, [LARGEST]) == shares_held(folders, name, attacks_on(folders, name))
    ]


def draw_curve(folders: Sequence[Path], path: Path) -> list[Path]:
    """Clean accuracy against the worst case under `adaptive`, a mark a contender. Writes `path` as .png and .pdf.

    GRFD as published is so far below that it would press the others together: the tables have it.
    """
    grids = [grid(rows(folder)) for folder in folders]
    attacks = attacks_on(folders, *contenders(folders))
    groups: dict[str, list[str]] = {}
    for name, about in contenders(folders).items():
        if about["group"] != PUBLISHED:
            groups.setdefault(about["group"], []).append(name)
    with styled():
        figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
        axis = figure.subplots()
        for index, (group, names) in enumerate(groups.items()):
            points = [(values(grids, "adaptive", name, "none"), shares_held(folders, name, attacks)) for name in names]
            clean, kept = ([statistics.mean(point[place]) for point in points] for place in (0, 1))
            spreads = [statistics.stdev(worst) for _, worst in points] if len(folders) > 1 else None
            axis.errorbar(clean, kept, yerr=spreads, fmt="osD^vP"[index % 6], label=group)
        axis.set_xlabel("clean accuracy, per cent")
        told = _worst_of(attacks) if len(attacks) < 4 else f"worst of {len(attacks)} attacks"
        axis.set_ylabel(f"{told}, adaptive, per cent")
        axis.legend()
        return saved(figure, path)


def config_of(folders: Sequence[Path]) -> dict[str, Any]:
    """The configuration that all seeds share."""
    found: dict[str, Any] = json.loads((folders[0] / "config.json").read_text())["config"]
    return found
