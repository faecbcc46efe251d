"""Why GRFD fails, and what exchanging its parts changes: how much of a perturbation reaches the target model.

Claim: the paper says that x − G(x) contains the robust features, and G(x) the redundant ones (section 3.2). But G has a
bottleneck and cannot reproduce a perturbation, so the residual keeps all of it and only a part of the image.
Cost: `grfd reproduce law --scale short --dry-run` prints the cost of each cell.
Command: `grfd reproduce law --scale short`; on CIFAR-10, `grfd reproduce law --dataset cifar10 --scale small`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from grfd import runs
from grfd.api import fitting
from grfd.api.job import load_data, open_run
from grfd.api.using import load_defense
from grfd.attacks import a3, pgd
from grfd.attacks.budgets import keywords_of
from grfd.config import PRESETS, Config, changed
from grfd.data.record import as_images
from grfd.defenses import DEFENSES, is_fitted
from grfd.defenses.grfd import GRFD
from grfd.evaluation.intervals import wilson
from grfd.experiments import variants
from grfd.experiments.cells import Cell
from grfd.method.passing import passed
from grfd.report.sheets import Sheet, markdown, printed, write
from grfd.report.style import COLUMN, new_figure, saved, styled
from grfd.seeds import generator
from grfd.types import Images

FOLDER = "law"
MEASURED_FILE = "law.json"
"""In the folder of a seed: variant → its numbers."""

_NOISE = 0.1
"""Largest absolute value of the uniform noise, in pixels of [0, 1]."""

_PUBLISHED: dict[str, dict[str, Any]] = {
    "1 epoch": {"epochs": 1},
    "3 epochs": {"epochs": 3},
    "6 epochs": {"epochs": 6},
    "12 epochs": {"epochs": 12},
    "KL summed, as eq. 2 prints it": {"epochs": 3, "kl": "sum"},
    "without RSM": {"epochs": 3, "gamma": 0.0, "delta": 0.0},
    "d = 16": {"epochs": 3, "latent": 16},
    "residual LVCVAE": {"epochs": 3, "autoencoder": "residual"},
}
_EXCHANGED = {
    f"{name}, G(x)": _PUBLISHED[name] | {"robust_part": "reconstruction"} for name in ("1 epoch", "3 epochs", "d = 16")
}
_SMALL: dict[str, dict[str, Any]] = {
    "1 epoch": {"epochs": 1},
    "4 epochs": {"epochs": 4},
    "4 epochs, G(x)": {"epochs": 4, "robust_part": "reconstruction"},
}


@dataclass(frozen=True)
class LawScale:
    """The configuration, what each variant changes in it, and the number of attacked test images."""

    config: Config
    variants: dict[str, dict[str, Any]]
    examples: int


_SCALES = {
    "quick": LawScale(
        replace(PRESETS["quick"], classifier_epochs=1, train_examples=12_000),
        {"1 epoch": {"epochs": 1}, "1 epoch, G(x)": {"epochs": 1, "robust_part": "reconstruction"}},
        50,
    ),
    "short": LawScale(PRESETS["quick"], _PUBLISHED | _EXCHANGED, 500),
    "cifar10-small": LawScale(replace(PRESETS["cifar10-small"], train_examples=20_000), _SMALL, 200),
}
SCALES = tuple(_SCALES)
_COMMITTED = {"short": "MNIST", "cifar10-small": "CIFAR-10, at a small scale"}
"""The scales of the records that the page is made of, and what they are called there."""


def _seed_folder(out: Path, scale: str, seed: int) -> Path:
    return out / f"{scale}-seed-{seed}"


def _folder_of(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def cells(out: Path, scale: str, seeds: int, data_dir: Path | None = None) -> list[Cell]:
    """For each seed and variant: stages I to III, and the measurement."""
    chosen, todo = _SCALES[scale], []
    for seed in range(seeds):
        folder = _seed_folder(out, scale, seed)
        for name, changes in chosen.variants.items():
            config = changed(replace(chosen.config, seed=seed, data_dir=data_dir), **changes)
            measured = partial(_is_measured, folder, name)
            todo += [
                Cell(f"seed {seed}: train {name}", partial(_is_trained, folder, name, measured),
                     partial(_train, folder / _folder_of(name), config), independent=True),
                Cell(f"seed {seed}: measure {name}", measured, partial(_measure, folder, name, chosen.examples)),
            ]  # fmt: skip
    return todo


def _train(path: Path, config: Config) -> None:
    """Stages I to III, without the undefended models."""
    with runs.locked(path):
        DEFENSES["grfd"].fit(fitting.prepare(path, config), DEFENSES["grfd"].Recipe())


def _is_trained(folder: Path, name: str, measured: Callable[[], bool]) -> bool:
    path = folder / _folder_of(name)
    return measured() or ((path / "config.json").exists() and is_fitted(runs.load(path), "grfd"))


def _is_measured(folder: Path, name: str) -> bool:
    return name in _stored(folder)


def _stored(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / MEASURED_FILE
    return json.loads(file.read_text()) if file.exists() else {}


def _measure(folder: Path, name: str, examples: int) -> None:
    """Adds the numbers of a variant to the file of its seed."""
    run = open_run(folder / _folder_of(name))
    split = load_data(run).test.take(examples)
    defense = load_defense(run)
    assert isinstance(defense, GRFD)
    images, labels = as_images(split.images), split.labels
    grey = images.shape[1] == 1
    stream = generator(run.config.seed, "law")
    noise = (images + _NOISE * (2 * torch.rand(images.shape, generator=stream) - 1)).clamp(0, 1)
    adversarial = pgd(defense, images, labels, **keywords_of("pgd", grey), active_set=False, generator=stream)
    worst = a3(defense, images, labels, **keywords_of("a3", grey), generator=stream)
    kept = torch.ones(len(labels), dtype=torch.bool)
    with torch.no_grad():
        clean = defense(images).argmax(1) == labels
        for each in (adversarial, worst):
            kept &= defense(each).argmax(1) == labels
    numbers: dict[str, Any] = {"examples": len(labels), "clean": _mean(clean), "worst": _mean(kept & clean)}
    numbers |= {"error": _mean((defense.generator.decode(defense.generator.encode(images)[0]) - images).square())}
    numbers |= _passing("noise", defense, images, noise) | _passing("pgd", defense, images, adversarial)
    numbers |= {"robust_part": run.config.robust_part, "epochs": run.config.epochs}
    runs.write_json(folder / MEASURED_FILE, _stored(folder) | {name: numbers})
    variants.delete_derived(run)


def _passing(name: str, defense: GRFD, images: Images, perturbed: Images) -> dict[str, float]:
    found = passed(defense.residual, images, perturbed)
    return {f"{name}_{field}": _mean(values) for field, values in found._asdict().items()}


def _mean(values: torch.Tensor) -> float:
    return round(float(values.detach().double().mean()), 6)


def show(out: Path, scale: str, seeds: int) -> list[Table | str]:
    """The numbers of the first seed, and law.png and .pdf."""
    folder = _seed_folder(out, scale, 0)
    sheet = _sheet(folder)
    write(sheet, out / "law")
    return [printed(sheet), f"drawn {_draw([folder], out / 'law')[0]}"]


def _sheet(folder: Path) -> Sheet:
    header = ["variant", "clean", "worst case", "noise that passes", "cosine", "PGD that passes", "cosine ",
              "‖x_r‖/‖x‖", "error of G"]  # fmt: skip
    lines = []
    for name, found in _stored(folder).items():
        low, high = wilson(found["worst"] * found["examples"], found["examples"])
        lines.append([
            name, f"{100 * found['clean']:.1f}", f"{100 * found['worst']:.1f} [{100 * low:.0f}, {100 * high:.0f}]",
            f"{100 * found['noise_share']:.0f} %", f"{found['noise_cosine']:.2f}",
            f"{100 * found['pgd_share']:.0f} %", f"{found['pgd_cosine']:.2f}", f"{found['noise_signal']:.2f}",
            f"{found['error']:.4f}",
        ])  # fmt: skip
    return Sheet(header, lines, "What reaches the target model")


def section(results: Path) -> list[str]:
    """The numbers and the figure of each committed data set."""
    parts = []
    for scale, title in _COMMITTED.items():
        folders = sorted((results / FOLDER).glob(f"{scale}-seed-*"))
        if not folders:
            continue
        examples = next(iter(_stored(folders[0]).values()))["examples"]
        command = "--scale short" if scale == "short" else "--dataset cifar10 --scale small"
        parts += [
            f"### On {title}",
            f"`grfd reproduce law {command}`, {examples:,} test images, seed 0. Of uniform noise of ±{_NOISE} and of a "
            "perturbation that PGD made end to end, how much reaches x_r: the length of x_r(x + δ) − x_r(x) divided by "
            "that of δ, and the cosine between them. The worst case is that of PGD and A3, end to end, at Table 1's ε. "
            "“G(x)” stands for the exchanged parts.",
            markdown(_sheet(folders[0])),
            f"![The worst case against the image that is left](law{'' if scale == 'short' else '-cifar10'}.png)",
        ]
    return ["## Why GRFD fails: the residual keeps the perturbation", *parts] if parts else []


def draw(results: Path, docs: Path) -> list[Path]:
    """law.png and .pdf, and law-cifar10.png and .pdf, of the records that are committed."""
    files = []
    for scale in _COMMITTED:
        folders = sorted((results / FOLDER).glob(f"{scale}-seed-*"))
        if folders:
            files += _draw(folders, docs / ("law" if scale == "short" else "law-cifar10"))
    return files


def _draw(folders: Sequence[Path], path: Path) -> list[Path]:
    """The worst case over ‖x_r‖/‖x‖, and over the share of the perturbation that passes, one mark for each variant."""
    with styled():
        figure = new_figure(2 * COLUMN, 2.6)
        axes = figure.subplots(1, 2, sharey=True)
        names = {"noise_signal": "share of the image in x_r, ‖x_r‖/‖x‖", "pgd_share": "share of PGD's δ in x_r"}
        for axis, (number, title) in zip(axes, names.items(), strict=True):
            for kind, mark, label in (("residual", "o", "x − G(x), as published"), ("reconstruction", "s", "G(x)")):
                points = [found for folder in folders for found in _stored(folder).values()
                          if found["robust_part"] == kind]  # fmt: skip
                x = [found[number] for found in points]
                axis.plot(x, [100 * found["worst"] for found in points], mark, label=label, clip_on=False)
            axis.set_xlabel(title)
        axes[0].set_ylabel("worst case, per cent")
        axes[0].set_ylim(0, 100)  # on CIFAR-10 all are at the bottom, and no axis may enlarge half a point
        axes[0].legend()
        return saved(figure, path)
