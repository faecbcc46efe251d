"""The page's section on GRFD robust, from the records of `grfd reproduce robust`."""

from collections.abc import Sequence
from pathlib import Path

from grfd.evaluation.numbers import column_titles, data_titles, rows
from grfd.evaluation.records import path_of, read_record
from grfd.evaluation.stored import read_checks
from grfd.experiments.robust.numbers import (
    LARGEST,
    OURS,
    PUBLISHED,
    best_of,
    config_of,
    contenders,
    decided_by_largest,
    draw_curve,
    paired_sheet,
    robust_sheet,
    short_sheet,
    verdict,
    with_most_attacks,
)
from grfd.report.sheets import markdown

FOLDERS = {"robust": "robust-short-seed", "robust-cifar10": "robust-cifar10-small-seed"}
"""Figure → beginning of the folder names in results/: MNIST's, and CIFAR-10's."""
SEARCH = {"robust-search": "robust-search-seed"}
"""The same of the search."""
CHOSEN = {
    "robust": "What is deployed was chosen by a search on training images (below).",
    "robust-cifar10": "No search preceded it: ε is 8/255 for all, β TRADES' own, the learning rate the small preset's.",
}
"""Figure → how its contenders were chosen."""
TOLD = ("robust at ε = 0.5", "gradient-free beats white-box")
"""Checks of which the page says what they saw on the finalist of ours, flagged or not."""
CURVE = "![Clean accuracy against the worst case]({figure}.png)"


def draw(results: Path, out: Path) -> list[Path]:
    """The page's figures; none where no such records are committed."""
    found = {name: _folders(results, beginning) for name, beginning in (FOLDERS | SEARCH).items()}
    return [path for name, folders in found.items() if folders for path in draw_curve(folders, out / name)]


def section(results: Path) -> list[str]:
    """The page's section; nothing where no such records are committed."""
    parts = [line for name, beginning in FOLDERS.items() for line in _final(_folders(results, beginning), name)]
    parts += [line for name, beginning in SEARCH.items() for line in _search(_folders(results, beginning), name)]
    return ["## Trained against its attacker: GRFD robust beside PGD-AT and TRADES", *parts] if parts else []


def _folders(results: Path, beginning: str) -> list[Path]:
    return sorted(results.glob(f"{beginning}-*"))


def _final(folders: Sequence[Path], figure: str) -> list[str]:
    """All seeds by the attacks that every seed has met; where some seeds have met more, those by themselves too."""
    if not folders:
        return []
    most = with_most_attacks(folders)
    title = "By all attacks, some of which the other seeds have not met:"
    more = [title, *_tables(most)] if len(most) < len(folders) else []
    return [
        f"`grfd reproduce robust`, {_told(folders)}. *Gradients*: of the whole network, that training took "
        "for each image of an epoch, all epochs together. The control is the same two networks, adversarially trained, "
        f"without any term of GRFD's. {CHOSEN[figure]}",
        *_tables(folders),
        CURVE.format(figure=figure),
        f"{PUBLISHED}, far below the others, is not drawn.",
        *more,
        _flags(folders),
    ]


def _tables(folders: Sequence[Path]) -> list[str]:
    short = short_sheet(folders)
    return [
        f"{short.title}, {_seeds(folders)}:",
        markdown(short),
        *verdict(folders),
        "All contenders, under `adaptive`:",
        markdown(robust_sheet(folders)),
        *_largest(folders),
        "Example by example, all seeds together; p is McNemar's exact test.",
        markdown(paired_sheet(folders)),
    ]


def _largest(folders: Sequence[Path]) -> list[str]:
    """Whose worst case hangs on the budget of one attack."""
    names = decided_by_largest(folders)
    if not names:
        return []
    record = read_record(path_of(folders[0], names[0], "adaptive", LARGEST))
    assert record is not None
    eps = f"{255 * record.settings['attack']['eps']:.0f}/255"
    others = ", ".join(name for name in contenders(folders) if name not in names)
    whose = f"every contender but {others}" if others else "every contender"
    title = column_titles()[LARGEST]
    told = f"{title} has the largest ε of Table 1, {eps}, and alone decides the worst case of {whose}."
    return [f"{told} The last two columns below do without it."]


def _search(folders: Sequence[Path], figure: str) -> list[str]:
    if not folders:
        return []
    return [
        "### The search",
        f"`grfd reproduce robust --scale search`, {_told(folders)}. {len(contenders(folders))} trials, judged on "
        "training images that none of them had seen; the test images chose nothing.",
        markdown(robust_sheet(folders)),
        CURVE.format(figure=figure),
    ]


def _told(folders: Sequence[Path]) -> str:
    """Data set, seeds, images, schedule of stage I."""
    config = config_of(folders)
    images = max(row.examples for row in rows(folders[0]))
    epochs = f"stage I of {config['epochs']} epochs where one starts from it"
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
    ours = best_of(folders, OURS)
    told = [each for each in checks if each[1].model == ours and each[1].name in TOLD and each not in flagged]
    lines = [f"- {seed}{check.model}: {check.name}: {check.detail}" for seed, check in flagged]
    lines += [f"- {seed}{check.model}, not flagged: {check.detail}" for seed, check in told]
    return "\n".join([f"Masking checks: {len(checks)} made, {len(flagged)} flagged.", *lines])
