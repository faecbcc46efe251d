"""GRFD robust beside adversarial training: from the records of `grfd reproduce robust`, compared example by example."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grfd.evaluation.case import CONTROL, SOURCE
from grfd.evaluation.numbers import column_titles, grid, rows
from grfd.evaluation.paired import attacks_on, compared, held_text, points_text, probability, shares_held
from grfd.evaluation.spread import Grid, cell_text, values
from grfd.experiments.records import config_of
from grfd.report.sheets import Sheet
from grfd.report.style import COLUMN, new_figure, saved, styled

JUDGED = "judged"
"""The folder of the records, in the folder of a seed."""
CONTENDERS_FILE = "contenders.json"
"""In the folder of the records: name → group, defense, recipe, changes of the configuration, gradients of the training
for each image, and whether it is a finalist. Finalists were chosen before the test images were used."""
OURS = "GRFD robust"
"""The group with which the others are compared."""
RESIDUAL_F = "PGD-AT, residual F"
"""The group of another target model without any G: a residual network instead of LeNet5."""
LARGEST_EPSILON = "fgsm"
"""The attack with the largest ε in Table 1. Its single step may do more than a hundred steps with a smaller ε."""
_AIM, _AIM_CLEAN = 0.5, {"mnist": " at 98.82 % clean"}
"""The aim: points above PGD-AT and TRADES in the worst case, and the clean accuracy."""
PUBLISHED = "GRFD as published"
_TRANSFERRED = "`transfer`, worst"
_ALONE = ("right with ours alone", "right with theirs alone")
"""Columns for which a terminal has no room."""
_IN_SHORT = (PUBLISHED, OURS, "control", "PGD-AT", "TRADES")
"""Groups of the short table."""


def contenders(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The contenders that every seed has. One that was added later appears when the last seed has it."""
    first, *others = [json.loads((folder / CONTENDERS_FILE).read_text()) for folder in folders]
    return {name: about for name, about in first.items() if all(name in each for each in others)}


def strongest(folders: Sequence[Path], group: str, *, finalists: bool = False) -> str | None:
    """The contender of a group with the highest mean worst case under the attacks that were run on all.

    `finalists`: considers only the finalists of the group, if it has any.
    """
    known = contenders(folders)
    attacks = attacks_on(folders, *known)
    names = [name for name, about in known.items() if about["group"] == group]
    final = [name for name in names if finalists and known[name]["finalist"]]
    return max(final or names, key=lambda name: statistics.mean(shares_held(folders, name, attacks)), default=None)


def representative(folders: Sequence[Path], group: str) -> str | None:
    """The representative of a group: its finalist, which was chosen before the test images were used."""
    return strongest(folders, group, finalists=True)


def with_most_attacks(folders: Sequence[Path]) -> list[Path]:
    """The seeds on whose finalists the largest number of attacks was run."""
    counts = [len(attacks_on([folder], SOURCE)) for folder in folders]
    return [folder for folder, count in zip(folders, counts, strict=True) if count == max(counts)]


def short_sheet(folders: Sequence[Path]) -> Sheet:
    """A row for each group: clean, and the worst case under `transfer` and `adaptive` of the attacks run on all."""
    by_group = {group: name for group in _IN_SHORT if (name := representative(folders, group))}
    grids = [grid(rows(folder)) for folder in folders]
    attacks = attacks_on(folders, SOURCE, *by_group.values())
    # what was made on the standard model is not transferred to it: another undefended model takes its place
    lines, defended = [], [(group, name, name) for group, name in by_group.items()]
    for group, name, receiver in [("none", SOURCE, CONTROL), *defended]:
        clean = cell_text(grids, "adaptive", name, "none")
        worsts = held_text(folders, receiver, attacks, "transfer"), held_text(folders, name, attacks)
        lines.append([group, clean, *worsts])
    header = ["defense", "clean", "`transfer`, worst case", "`adaptive`, worst case"]
    return Sheet(header, lines, f"Worst of {', '.join(column_titles()[name] for name in attacks)}")


def robust_sheet(folders: Sequence[Path]) -> Sheet:
    """A row for each contender under `adaptive`: clean, each attack, and worst cases.

    The first worst case is that of the attacks that were run on all contenders. If more were run on some, a second one
    is that of all attacks on this contender. The last is that of `transfer`. A single attack is its own worst case.
    """
    grids = [grid(rows(folder)) for folder in folders]
    common = attacks_on(folders, *contenders(folders))
    attacks = attacks_on(folders, SOURCE)
    some_have_more = len(common) < len(attacks)
    lines = []
    for name, about in {SOURCE: {"gradients": ""}, **contenders(folders)}.items():
        mine = attacks_on(folders, name)
        numbers = [cell_text(grids, "adaptive", name, attack) for attack in ("none", *attacks)]
        worst = [held_text(folders, name, common)] if len(attacks) > 1 else []
        worst += [held_text(folders, name, mine) if len(mine) > len(common) else "–"] if some_have_more else []
        transferred = "–" if name == SOURCE else held_text(folders, name, mine, "transfer")
        lines.append([name, str(about["gradients"]), *numbers, *worst, transferred])
    worsts = [_worst_of(common), "worst of all"] if some_have_more else [f"worst of the {len(attacks)}"]
    worsts = worsts if len(attacks) > 1 else []
    header = ["model", "gradients", "clean", *(column_titles()[name] for name in attacks), *worsts, _TRANSFERRED]
    return Sheet(header, lines, "Adaptive")


def in_brief(sheet: Sheet) -> Sheet:
    """Without single attacks beside their worst case, `transfer`, counts and gradients, since a terminal is narrow."""
    single = set(column_titles().values()) - {column_titles()["none"]}
    has_worst = any(name.startswith("worst of") for name in sheet.header)
    left_out = {"gradients", _TRANSFERRED, *_ALONE, *(single if has_worst else ())}
    kept = [index for index, name in enumerate(sheet.header) if name not in left_out]
    return replace(
        sheet,
        header=[sheet.header[index] for index in kept],
        rows=[[row[index] for index in kept] for row in sheet.rows],
    )


def _worst_of(attacks: Sequence[str]) -> str:
    return f"worst of {', '.join(column_titles()[name] for name in attacks)}"


def verdict_lines(folders: Sequence[Path]) -> list[str]:
    """The distance of our finalist from the aim, and what the control says about GRFD's terms.

    One line for each group, with its strongest contender, all seeds together.
    """
    ours = representative(folders, OURS)
    if ours is None:
        return []
    grids = [grid(rows(folder)) for folder in folders]
    aim_clean = _AIM_CLEAN.get(config_of(folders[0])["data"], "")
    aim = f"The aim was {_AIM} points more than PGD-AT and TRADES{aim_clean}. {ours} is at {_clean(grids, ours)}."
    lines = []
    for group in ("PGD-AT", RESIDUAL_F, "TRADES", "control"):
        name = strongest(folders, group)
        if name is not None:
            pair = compared(folders, ours, name)
            chance = "" if pair.p_value < 0.05 else ", which may be chance"
            difference = f"{points_text(pair)} points (p {probability(pair.p_value)}{chance})"
            lines.append(f"- compared with {name}, the strongest {group}, at {_clean(grids, name)}: {difference}")
    return [aim, "\n".join(lines)]


def _clean(grids: Sequence[Grid], name: str) -> str:
    return f"{statistics.mean(values(grids, 'adaptive', name, 'none')):.2f} % clean"


def paired_sheet(folders: Sequence[Path], group: str = OURS) -> Sheet:
    """The best of a group and each other contender, example by example; then without the attack with the largest ε."""
    ours, lines = representative(folders, group), []
    others = {attack for name in contenders(folders) for attack in attacks_on(folders, name)} - {LARGEST_EPSILON}
    for name in contenders(folders):
        if ours is not None and name != ours:
            pair = compared(folders, ours, name)
            counts = [str(pair.ours_alone), str(pair.theirs_alone)]
            lines.append([name, points_text(pair), *counts, probability(pair.p_value)])
            lines[-1] += _without_largest(folders, ours, name) if others else []
    without = f"without {column_titles()[LARGEST_EPSILON]}"
    header = [f"{ours} less", "points", *_ALONE, "p", *([f"points {without}", f"p {without}"] if others else [])]
    return Sheet(header, lines, "Worst case under adaptive, example by example")


def _without_largest(folders: Sequence[Path], ours: str, theirs: str) -> list[str]:
    if attacks_on(folders, ours, theirs) == [LARGEST_EPSILON]:
        return ["–", "–"]
    pair = compared(folders, ours, theirs, left_out=[LARGEST_EPSILON])
    return [points_text(pair), probability(pair.p_value)]


def decided_by_largest(folders: Sequence[Path]) -> list[str]:
    """The contenders whose worst case is, for every seed, that of the attack with the largest ε alone."""
    return [
        name
        for name in contenders(folders)
        if shares_held(folders, name, [LARGEST_EPSILON]) == shares_held(folders, name, attacks_on(folders, name))
    ]


def draw_curve(folders: Sequence[Path], path: Path) -> list[Path]:
    """Draws clean accuracy against the worst case under `adaptive`. Writes `path` as .png and .pdf.

    GRFD as published is left out. It is so far below the others that they could not be told apart.
    """
    grids = [grid(rows(folder)) for folder in folders]
    attacks = attacks_on(folders, *contenders(folders))
    groups: dict[str, list[str]] = {}
    for name, about in contenders(folders).items():
        if about["group"] != PUBLISHED:
            groups.setdefault(about["group"], []).append(name)
    with styled():
        figure = new_figure(COLUMN, 2.6)
        axis = figure.subplots()
        for index, (group, names) in enumerate(groups.items()):
            places = [(values(grids, "adaptive", name, "none"), shares_held(folders, name, attacks)) for name in names]
            clean, kept = ([statistics.mean(point[place]) for point in places] for place in (0, 1))
            spreads = [statistics.stdev(worst) for _, worst in places] if len(folders) > 1 else None
            axis.errorbar(clean, kept, yerr=spreads, fmt="osD^vP"[index % 6], label=group)
        axis.set_xlabel("clean accuracy, per cent")
        worst = _worst_of(attacks) if len(attacks) < 4 else f"worst of {len(attacks)} attacks"
        axis.set_ylabel(f"{worst}, adaptive, per cent")
        axis.legend()
        return saved(figure, path)
