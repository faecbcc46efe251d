"""The section on the defenses of section 2.2: their table, a verdict on each, and the figure of all defenses."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grfd.defenses import DEFENSES
from grfd.evaluation.case import CONTROL, SOURCE
from grfd.evaluation.numbers import column_titles, data_titles, grid, model_titles, rows
from grfd.evaluation.paired import attacks_on, compared, points_text, shares_held
from grfd.evaluation.results import Check
from grfd.evaluation.spread import Grid, cell_text, values
from grfd.evaluation.stored import read_checks
from grfd.experiments.records import config_of
from grfd.experiments.section22.generators import generators_part
from grfd.experiments.table_cells import TIMES_FILE
from grfd.report.sheets import Sheet, markdown
from grfd.report.style import COLUMN, new_figure, saved, styled

FOLDER = "section22"
_COMMITTED = {"short": "defenses", "cifar10-small": "defenses-cifar10"}
"""Scale of committed records → figure."""

Times = Mapping[str, Mapping[str, float]]
"""Defense → `fit_seconds` and `answer_milliseconds`."""


def section(results: Path) -> list[str]:
    """The table, the verdicts and the figure of each committed data set."""
    parts = []
    for scale, figure in _COMMITTED.items():
        folders = sorted((results / FOLDER).glob(f"{scale}-seed-*"))
        if folders:
            parts += _scale_section(folders, scale, figure)
    return ["## Section 2.2: the defenses that the paper cites", *parts] if parts else []


def draw(results: Path, docs: Path) -> list[Path]:
    """The figure of all defenses of each committed data set."""
    written = []
    for scale, figure in _COMMITTED.items():
        folders = sorted((results / FOLDER).glob(f"{scale}-seed-*"))
        if folders:
            written += draw_defenses(folders, _times(folders[0]), docs / figure)
    return written


def _scale_section(folders: Sequence[Path], scale: str, figure: str) -> list[str]:
    config = config_of(folders[0])
    options = f"--scale {scale}" if scale == "short" else "--dataset cifar10 --scale small"
    seeds = f"{len(folders)} seeds" if len(folders) > 1 else "one seed"
    training = f"{config['train_examples']:,} training images" if config["train_examples"] else "all training images"
    checks = [check for folder in folders for check in read_checks(folder)]
    return [
        f"### Section 2.2 on {data_titles()[config['data']]}",
        f"`grfd reproduce section22 {options}`: {config['model']}, {training}, {seeds}. Recipes are those of the "
        "authors as far as they are known, scaled to these images; docs/defenses.md and the docstrings name what "
        "differs. *Worst case* is over the attacks of the row. Minutes and milliseconds are those of this machine "
        "without a GPU. For a random defense, an answer is one draw of its many. A dash means: not run.",
        markdown(defenses_sheet(folders, _times(folders[0]))),
        "Did it hold? The difference is that of the worst cases under `adaptive` to those of the undefended network, "
        "image by image, with its 95 % interval; the attack that leaves least is the one that broke it:",
        "\n".join(verdict_of_defense(folders, name, checks) for name in _judged(folders) if name != SOURCE),
        f"![All defenses: clean accuracy against the worst case]({figure}.png)",
        "One mark is one defense. Its area grows with the time of an answer.",
        *generators_part(folders[0]),
    ]


def _times(folder: Path) -> Times:
    file = folder / TIMES_FILE
    return json.loads(file.read_text()) if file.exists() else {}


def _judged(folders: Sequence[Path]) -> list[str]:
    """The models that are recorded under `adaptive`, in the order of tables."""
    grids = _grids(folders)
    return [name for name in model_titles() if name != CONTROL and any(("adaptive", name) in each for each in grids)]


def _grids(folders: Sequence[Path]) -> list[Grid]:
    return [grid(rows(folder)) for folder in folders]


def defenses_sheet(folders: Sequence[Path], times: Times) -> Sheet:
    """One line for each defense: clean, the white-box attacks, the worst case under each protocol, and the cost."""
    grids = _grids(folders)
    names = _judged(folders)
    attacks = [name for name in column_titles() if any(values(grids, "whitebox", each, name) for each in names)]
    attacks = [name for name in attacks if name not in ("none", "worst")]
    lines = []
    for name in names:
        cost = times.get(name)
        lines.append(
            [
                model_titles()[name],
                cell_text(grids, "adaptive", name, "none"),
                *(cell_text(grids, "whitebox", name, attack) for attack in attacks),
                *(cell_text(grids, protocol, name, "worst") for protocol in ("transfer", "whitebox", "adaptive")),
                _images(grids, name),
                f"{cost['fit_seconds'] / 60:.1f}" if cost else "–",
                f"{cost['answer_milliseconds']:.2f}" if cost else "–",
            ]
        )
    header = ["defense", "clean", *(f"`whitebox`, {column_titles()[name]}" for name in attacks)]
    header += ["`transfer`, worst", "`whitebox`, worst", "`adaptive`, worst", "images", "fit, min", "answer, ms"]
    return Sheet(header, lines, "The defenses of section 2.2")


def brief_sheet(sheet: Sheet) -> Sheet:
    """Without single attacks and times of fits, and with intervals for `adaptive` alone: a terminal is narrow."""
    shown = {name: name.replace("`", "").replace(", ", "\n") for name in sheet.header}
    kept = [
        place
        for place, name in enumerate(sheet.header)
        if "worst" in name or not name.startswith(("`whitebox`", "fit"))
    ]
    rows = [
        [row[place] if "adaptive" in sheet.header[place] else row[place].partition(" [")[0] for place in kept]
        for row in sheet.rows
    ]
    return replace(sheet, header=[shown[sheet.header[place]] for place in kept], rows=rows)


def _images(grids: Sequence[Grid], name: str) -> str:
    """The numbers of images of the attacks, the largest first."""
    counts = {row.examples for each in grids for attack, row in each.get(("adaptive", name), {}).items()
              if attack not in ("none", "worst")}  # fmt: skip
    return " / ".join(f"{count:,}" for count in sorted(counts, reverse=True))


def verdict_of_defense(folders: Sequence[Path], name: str, checks: Sequence[Check]) -> str:
    """One sentence: whether the defense held, what broke it if not, what others found, and which checks flag it."""
    pair = compared(folders, name, SOURCE)
    low, high = pair.interval
    attacks = attacks_on(folders, name, SOURCE)
    left = {attack: shares_held(folders, name, [attack]) for attack in attacks}
    strongest = min(left, key=lambda attack: statistics.mean(left[attack]))
    if low > 0:
        said = "keeps more than no defense"
    elif high < 0:
        said = "is weaker than no defense"
    else:
        said = "is as weak as no defense, within the interval"
    kept = f"{statistics.mean(left[strongest]):.1f} % are left by {column_titles()[strongest]}"
    flags = sorted({check.name for check in checks if check.flagged and check.model == name})
    parts = [f"- **{model_titles()[name]}** {said}: {points_text(pair)} points. {kept}."]
    if flags:
        parts.append(f"Flagged: {', '.join(flags)}.")
    if name in DEFENSES and DEFENSES[name].LITERATURE:
        parts.append(f"Literature: {DEFENSES[name].LITERATURE}")
    return " ".join(parts)


def _write_names(axis: Any, points: Mapping[str, tuple[float, float, float]], top: float) -> None:
    """The names in a column beside the axis, in the order of the worst cases, each with a line to its mark.

    Of marks at one height, the one on the left has the higher name, so that lines do not cross. `top`: end of the axis.
    """
    ordered = sorted(points, key=lambda name: (points[name][1], -points[name][0]))
    distance = top / max(len(ordered), 14)
    height = -distance
    for place, name in enumerate(ordered):
        clean, worst, _ = points[name]
        height = min(max(worst, height + distance), top - distance * (len(ordered) - 1 - place))
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.6", "relpos": (0, 0.5), "shrinkA": 0}
        axis.annotate(model_titles()[name], (clean, worst), (1.03, height), textcoords=axis.get_yaxis_transform(),
                      fontsize=6, verticalalignment="center", arrowprops=line)  # fmt: skip


def draw_defenses(folders: Sequence[Path], times: Times, path: Path) -> list[Path]:
    """Clean accuracy against the worst case under `adaptive`, one mark for each. Its area is the time of an answer.

    Writes `path` as .png and .pdf.
    """
    grids, points = _grids(folders), {}
    for name in _judged(folders):
        clean, worst = (statistics.mean(values(grids, "adaptive", name, attack)) for attack in ("none", "worst"))
        points[name] = (clean, worst, times.get(name, {}).get("answer_milliseconds", 0.0))
    with styled():
        figure = new_figure(COLUMN * 1.5, 3.4)
        axis = figure.subplots()
        axis.grid(True, axis="both")
        for index, (name, (clean, worst, milliseconds)) in enumerate(points.items()):
            colour = "0.4" if name == SOURCE else f"C{index % 7}"
            axis.scatter(clean, worst, s=12 + 120 * milliseconds**0.5, alpha=0.6, color=colour, linewidth=0)
        axis.set_xlabel("clean accuracy, per cent")
        axis.set_ylabel("worst case under adaptive, per cent")
        top = min(100, 10 * math.ceil(max(worst for _, worst, _ in points.values()) / 10 + 1))
        axis.set_ylim(0, top)
        axis.margins(x=0.1)
        _write_names(axis, points, top)
        return saved(figure, path)
