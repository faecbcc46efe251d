"""GRFD free: do the paper's losses help a defense that never trains on an adversarial example?

Claim: the paper promises robustness "without requiring any prior knowledge of adversarial attacks" (abstract). As
published, GRFD fails (`grfd reproduce law` shows why). With the parts exchanged and a penalty on the input gradient, it
is compared with its control (the same two networks and penalty, without any term of GRFD's), with every baseline that
trains without adversarial examples, and with PGD-AT (projected gradient descent, adversarial training) and TRADES.
Cost: `grfd reproduce free --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce free --scale short --seeds 3`; `grfd reproduce free --dataset cifar10 --scale small`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

from grfd.api.job import named_data
from grfd.data.record import as_images
from grfd.defenses.grfd import GRFD
from grfd.evaluation.crafting import LabelledImages
from grfd.evaluation.numbers import data_titles, rows
from grfd.evaluation.paired import attacks_on, compared, points_text, probability, worst
from grfd.evaluation.stored import read_checks
from grfd.experiments.cells import Cell
from grfd.experiments.free import bottleneck
from grfd.experiments.free.contenders import FREE, FREE_SCALES
from grfd.experiments.records import config_of
from grfd.experiments.robust import cells_of_seed, deployed
from grfd.experiments.robust.contenders import ContenderScale
from grfd.experiments.robust.numbers import JUDGED, draw_curve, in_brief, paired_sheet, robust_sheet
from grfd.report.sheets import markdown, printed, write

FOLDER = "free"
SCALES = tuple(FREE_SCALES)
_LONGER = "free-more-epochs"
_BOTTLENECKS = ("free", "control", _LONGER, "control-more-gradients")
"""The contenders that are attacked around G, where a scale has them."""
_AROUND = {"quick": 20, "short": 200, "cifar10-small": 100}
"""Scale → images for these attacks."""
_FIGURES = {"short": "free", "cifar10-small": "free-cifar10"}
"""Scale of committed records → figure."""
_SEARCH = "search"


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """The standard models, and the training and evaluation of each contender, for each seed."""
    chosen = replace(FREE_SCALES[scale], config=replace(FREE_SCALES[scale].config, data_dir=data_dir))
    todo = [cell for seed in range(seeds) for cell in cells_of_seed(out / f"{scale}-seed-{seed}", chosen, seed)]
    first = out / f"{scale}-seed-0"
    if scale not in _AROUND:
        return todo
    measured = partial(bottleneck.is_attacked, first / JUDGED, _attacked_around(chosen))
    return [*todo, Cell(f"seed 0: around the bottleneck, {_AROUND[scale]} images", measured,
                        partial(_around, first, chosen, _AROUND[scale]))]  # fmt: skip


def _attacked_around(scale: ContenderScale) -> tuple[str, ...]:
    return tuple(name for name in _BOTTLENECKS if name in scale.contenders)


def _around(folder: Path, scale: ContenderScale, count: int) -> None:
    """Attacks that avoid G, on GRFD free and its controls."""
    split = named_data(replace(scale.config, seed=0)).test.take(count)
    waiting = [name for name in _attacked_around(scale) if not bottleneck.is_attacked(folder / JUDGED, [name])]
    models = {name: deployed(folder / name, scale.contenders[name]) for name in waiting}
    defenses = {name: model for name, model in models.items() if isinstance(model, GRFD)}
    bottleneck.attack_bottleneck(defenses, LabelledImages(as_images(split.images), split.labels), folder / JUDGED)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The worst cases of all contenders, paired comparisons with GRFD free, and the curve."""
    folders = [out / f"{scale}-seed-{seed}" / JUDGED for seed in range(seeds)]
    whole, paired = robust_sheet(folders), paired_sheet(folders, FREE)
    write(whole, out / "free")
    write(paired, out / "free-paired")
    return [printed(in_brief(whole)), printed(in_brief(paired)), f"drawn {draw_curve(folders, out / 'free')[0]}"]


def section(results: Path) -> list[str]:
    """The tables, the comparisons and the curve of each committed data set."""
    parts = []
    for scale, figure in _FIGURES.items():
        if folders := _folders(results, scale):
            parts += _of_scale(folders, figure)
    if folders := _folders(results, _SEARCH):
        parts += _of_search(folders)
    return ["## Without adversarial examples: GRFD free beside its baselines", *parts] if parts else []


def draw(results: Path, docs: Path) -> list[Path]:
    """Clean accuracy against the worst case, beside the page. Returns the files that were written."""
    return [file for scale, figure in _FIGURES.items() if (folders := _folders(results, scale))
            for file in draw_curve(folders, docs / figure)]  # fmt: skip


def _folders(results: Path, scale: str) -> list[Path]:
    return sorted((results / FOLDER).glob(f"{scale}-seed-*/{JUDGED}"))


def _of_scale(folders: Sequence[Path], figure: str) -> list[str]:
    config = config_of(folders[0])
    images = max(row.examples for row in rows(folders[0]))
    seeds = f"{len(folders)} seeds" if len(folders) > 1 else "one seed"
    return [
        f"### On {data_titles()[config['data']]}",
        f"`grfd reproduce free`, {seeds}, {images:,} test images. *Gradients* is the number of gradients of the whole "
        "network for each image over the whole training. The control is the same two networks with the same penalty, "
        "without any term of GRFD's. PGD-AT and TRADES train on adversarial examples, and are references.",
        *_tables(folders),
        *_terms(folders),
        *_longer(folders),
        f"![Clean accuracy against the worst case]({figure}.png)",
        *bottleneck.bottleneck_part(folders[0], _end_to_end(folders[0])),
        _flags(folders),
    ]


def _flags(folders: Sequence[Path]) -> str:
    """How many masking checks were made, and those that are flagged."""
    checks = [check for folder in folders for check in read_checks(folder)]
    flagged = [f"- {check.model}: {check.name}: {check.detail}" for check in checks if check.flagged]
    return "\n".join([f"Masking checks: {len(checks)} made, {len(flagged)} flagged.", *flagged])


def _of_search(folders: Sequence[Path]) -> list[str]:
    """What each setting changes, judged on training images."""
    config = config_of(folders[0])
    images = max(row.examples for row in rows(folders[0]))
    return [
        "### Which settings matter",
        f"`grfd reproduce free --scale search`, MNIST, one seed, {config['train_examples']:,} training images, three "
        "epochs of GRFD free. Each trial changes one setting of *free*, which has a small G (curvature has a "
        "weight of its own, because its unit is another); the baselines have about "
        f"as many gradients as it, at several strengths. They are judged on {images:,} other training images, so that "
        "the test images choose nothing. After so few steps some trials are undertrained, as their clean accuracy "
        "shows.",
        *_tables(folders),
        _flags(folders),
    ]


def _tables(folders: Sequence[Path]) -> list[str]:
    """All contenders, and each of them compared with GRFD free."""
    return [
        markdown(robust_sheet(folders)),
        "A comparison image by image, with the seeds of an image kept together; in brackets the 95 % interval:",
        markdown(paired_sheet(folders, FREE)),
    ]


def _terms(folders: Sequence[Path]) -> list[str]:
    """What GRFD's terms are worth, with each G: GRFD free less its control, image by image."""
    named = {
        "G residual, equal epochs": ("free", "control"),
        "G residual, the control with more gradients": ("free", "control-more-gradients"),
        "G LeNet5's mirror image, equal epochs": ("free-lenet", "control-lenet"),
        "G LeNet5's mirror image, the control with more gradients": ("free-lenet", "control-lenet-more-gradients"),
        "G residual, twice the epochs for both": (_LONGER, "control-more-gradients"),
        "G LeNet5's mirror image, twice the epochs for both": (
            "free-lenet-more-epochs",
            "control-lenet-more-gradients",
        ),
    }
    opening = "What GRFD's terms are worth, as the worst case of GRFD free less that of its control:"
    return [opening, _differences(folders, named)]


def _longer(folders: Sequence[Path]) -> list[str]:
    """GRFD free with twice the epochs less the strongest baseline and the references, image by image."""
    named = {f"less {name}": (_LONGER, name) for name in ("bit-depth", "cure-from-start", "pgd-at", "trades")}
    if not attacks_on(folders, _LONGER):
        return []
    return ["The worst case of GRFD free with a residual G and twice the epochs:", _differences(folders, named)]


def _differences(folders: Sequence[Path], named: Mapping[str, tuple[str, str]]) -> str:
    """A line for each pair of contenders that met the same attacks."""
    met = {title: pair for title, pair in named.items() if attacks_on(folders, *pair)}
    pairs = {title: compared(folders, *pair) for title, pair in met.items()}
    return "\n".join(
        f"- {title}: {points_text(pair)} points (p {probability(pair.p_value)})" for title, pair in pairs.items()
    )


def _end_to_end(folder: Path) -> dict[str, np.ndarray]:
    """Contender → whether each image is right under all attacks of `adaptive` that it has met."""
    met = {name: attacks_on([folder], name) for name in _BOTTLENECKS}
    return {name: worst(folder, name, attacks) for name, attacks in met.items() if attacks}
