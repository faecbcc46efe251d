"""The page's section on GRFD robust, from the records of `grfd reproduce robust`."""

from collections.abc import Sequence
from pathlib import Path

from grfd.evaluation.numbers import column_titles, data_titles, rows
from grfd.evaluation.records import path_of, read_record
from grfd.evaluation.stored import read_checks
from grfd.experiments.records import config_of, early_note
from grfd.experiments.robust.numbers import (
    JUDGED,
    LARGEST_EPSILON,
    OURS,
    PUBLISHED,
    contenders,
    decided_by_largest,
    draw_curve,
    paired_sheet,
    representative,
    robust_sheet,
    short_sheet,
    verdict_lines,
    with_most_attacks,
)
from grfd.report.sheets import markdown

_FINAL = {"robust": "short", "robust-cifar10": "cifar10-small"}
"""Figure → the scale whose records it shows: on MNIST and on CIFAR-10."""
_SEARCH = {"robust-search": "search"}
"""The same for the search."""
_CHOICE = {
    "robust": "The contenders were chosen by a search on training images (below).",
    "robust-cifar10": "No search preceded it: ε is 8/255 for all, β is that of TRADES, the learning rate that of the "
    "small preset.",
}
"""Figure → how its contenders were chosen."""
_ALWAYS_REPORTED = ("robust at ε = 0.5", "gradient-free beats white-box")
"""Checks whose detail the page gives for our finalist even if they are not flagged."""
_CURVE = "![Clean accuracy against the worst case]({figure}.png)"


def draw(results: Path, docs: Path) -> list[Path]:
    """Draws the curves of the sections beside the page. Returns the files that were written."""
    files = []
    for figure, scale in (_FINAL | _SEARCH).items():
        if folders := _folders(results, scale):
            files += draw_curve(folders, docs / figure)
    return files


def section(results: Path) -> list[str]:
    """The tables and curves of all scales of which records are committed."""
    parts = [line for figure, scale in _FINAL.items() for line in _final(_folders(results, scale), figure)]
    parts += [line for figure, scale in _SEARCH.items() for line in _search(_folders(results, scale), figure)]
    return ["## Trained against its attacker: GRFD robust beside PGD-AT and TRADES", *parts] if parts else []


def _folders(results: Path, scale: str) -> list[Path]:
    return sorted((results / "robust").glob(f"{scale}-seed-*/{JUDGED}"))


def _final(folders: Sequence[Path], figure: str) -> list[str]:
    """All seeds with the attacks that every seed has, then the seeds with more attacks alone."""
    if not folders:
        return []
    most = with_most_attacks(folders)
    title = "The same with all attacks, some of which were not run for the other seeds:"
    more = [title, *_tables(most)] if len(most) < len(folders) else []
    return [
        f"`grfd reproduce robust`, {_about(folders)}. *Gradients* is the number of gradients of the whole network for "
        "each image over the whole training. The control is the same two networks, adversarially trained without any "
        f"term of GRFD's. {_CHOICE[figure]}",
        *early_note(folders),
        *_tables(folders),
        _CURVE.format(figure=figure),
        f"{PUBLISHED} is far below the others and is not drawn.",
        *more,
        _flags(folders),
    ]


def _tables(folders: Sequence[Path]) -> list[str]:
    short = short_sheet(folders)
    return [
        f"{short.title}, {_seeds(folders)}:",
        markdown(short),
        *verdict_lines(folders),
        "All contenders under `adaptive`:",
        markdown(robust_sheet(folders)),
        *_largest(folders),
        "A comparison image by image, with the seeds of an image kept together; in brackets the 95 % interval:",
        markdown(paired_sheet(folders)),
    ]


def _largest(folders: Sequence[Path]) -> list[str]:
    """Which worst cases depend on the budget of one attack."""
    names = decided_by_largest(folders)
    if not names:
        return []
    record = read_record(path_of(folders[0], names[0], "adaptive", LARGEST_EPSILON))
    assert record is not None
    eps = f"{255 * record.settings['attack']['eps']:.0f}/255"
    others = ", ".join(name for name in contenders(folders) if name not in names)
    whose = f"every contender but {others}" if others else "every contender"
    title = column_titles()[LARGEST_EPSILON]
    return [
        f"{title} alone determines the worst case of {whose}, because Table 1 gives it the largest ε ({eps}). The last "
        "two columns below are without it."
    ]


def _search(folders: Sequence[Path], figure: str) -> list[str]:
    if not folders:
        return []
    return [
        "### The search",
        f"`grfd reproduce robust --scale search`, {_about(folders)}. {len(contenders(folders))} trials were judged on "
        "training images that none of them had seen, so that the test images chose nothing.",
        *early_note(folders),
        markdown(robust_sheet(folders)),
        _CURVE.format(figure=figure),
    ]


def _about(folders: Sequence[Path]) -> str:
    """The data set, the seeds, the number of images and the schedule of stage I."""
    config = config_of(folders[0])
    images = max(row.examples for row in rows(folders[0]))
    epochs = f"{config['epochs']} epochs of stage I for contenders that start from it"
    return f"{data_titles()[config['data']]}, {_seeds(folders)}, {images:,} images, {epochs}"


def _seeds(folders: Sequence[Path]) -> str:
    return f"{len(folders)} seeds" if len(folders) > 1 else "one seed"


def _flags(folders: Sequence[Path]) -> str:
    checks = [
        (f"seed {seed}: " if len(folders) > 1 else "", check)
        for seed, folder in enumerate(folders)
        for check in read_checks(folder)
    ]
    flagged = [(seed, check) for seed, check in checks if check.flagged]
    ours = representative(folders, OURS)
    reported = [
        each for each in checks if each[1].model == ours and each[1].name in _ALWAYS_REPORTED and each not in flagged
    ]
    lines = [f"- {seed}{check.model}: {check.name}: {check.detail}" for seed, check in flagged]
    lines += [f"- {seed}{check.model}, not flagged: {check.detail}" for seed, check in reported]
    return "\n".join([f"Masking checks: {len(checks)} made, {len(flagged)} flagged.", *lines])
