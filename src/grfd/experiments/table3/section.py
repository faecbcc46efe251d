"""The section on Table 3: GRFD beside its rivals, each under each protocol, derived from records of several seeds."""

import json
import statistics
from pathlib import Path

import numpy as np

from grfd.attacks import TABLE_1_ATTACKS
from grfd.defenses import DEFENSES
from grfd.evaluation.case import CONTROL
from grfd.evaluation.numbers import Row, column_titles, data_titles, grid, model_titles, rows, usual
from grfd.evaluation.protocols import PROTOCOLS, Protocol
from grfd.evaluation.spread import Grid, spread, values
from grfd.evaluation.stored import read_checks, read_evaluation
from grfd.experiments import none_row_section as none_row
from grfd.experiments import sources_section as sources
from grfd.experiments.paper import TABLE_3
from grfd.experiments.table3.certificates import RADII, certified_accuracy
from grfd.report.sheets import Sheet, markdown

SEEDS = {"mnist": "table3-seed", "cifar10": "table3-cifar10-seed", "cifar100": "table3-cifar100-seed"}
"""Data set → beginning of the folder names in results/."""
SHOWN = ("none", *TABLE_1_ATTACKS, "worst")
RANKED: tuple[Protocol, ...] = ("transfer", "whitebox", "adaptive")
"""Protocols that every defense is judged under."""
HOLDS = 2.0
"""Points by which ours may fall short of the paper's average before it is said not to hold."""

HEAD = """## Table 3: GRFD beside its rivals

`grfd reproduce table3 --scale paper`. Each cell is ours / the paper's, in per cent; the paper names no protocol, so its
number is the same in each table. {seeds} A dash: not measured, or not in the paper. Rivals are trained by recipes of
the literature, which their docstrings name; the paper does not say how it trained them. A detector's clean images count
as wrong where they are rejected, its attacked ones as right. AA is the standard AutoAttack. The first test images are
not quite like all of them, so compare numbers of as many images: one on 500 can stand above one on 10,000 that is of a
weaker attack."""

HOLDING = f"""Averages over the five attacks, or over those that were run, in per cent. A number of the paper *holds*
where ours is at least that, less {HOLDS:g} points."""


SMALL = """## Table 3 on {title}, at a small scale

`grfd reproduce table3 --dataset {data} --scale small`: {model}, stage I {epochs} epochs, classifiers
{classifier_epochs}. {seeds} Images: {images}. Budgets are Table 1's for CIFAR (FGSM 8/255, PGD 1/255, AA,
EOTPGD and VMIFGSM 4/255). The paper's numbers are of WRN-28-10 after 150 epochs, so they stand below and are not
compared: None {none}, GRFD {grfd} (clean, FGSM, PGD, AA, EOTPGD, VMIFGSM)."""


def small_section(results: Path, data: str) -> list[str]:
    """The same for CIFAR, from a small network: no verdicts on the paper's numbers."""
    folders = sorted(results.glob(f"{SEEDS[data]}-*"))
    if not folders:
        return []
    grids = [grid(rows(folder)) for folder in folders]
    config = json.loads((folders[0] / "config.json").read_text())["config"]
    evaluation = read_evaluation(folders[0], "images")
    paper = {
        model: " / ".join(f"{value:.2f}" for value in TABLE_3[data][model].values()) for model in ("standard", "grfd")
    }
    head = SMALL.format(
        title=data_titles()[data], data=data, seeds=_seeds(grids), images=evaluation["images"], none=paper["standard"],
        grfd=paper["grfd"], model=config["model"], epochs=config["epochs"],
        classifier_epochs=config["classifier_epochs"],
    )  # fmt: skip
    parts = [head]
    for protocol in RANKED:
        parts += [f"`{protocol}`: {PROTOCOLS[protocol]}.", _table(grids, protocol, {})]
    return [*parts, _flags(folders, grids), _costs(folders[0])]


def section(results: Path) -> list[str]:
    """Paragraphs and tables of the section on MNIST; none where no such run is committed."""
    folders = sorted(results.glob(f"{SEEDS['mnist']}-*"))
    if not folders:
        return []
    grids = [grid(rows(folder)) for folder in folders]
    parts = [HEAD.format(seeds=_seeds(grids))]
    for protocol in RANKED:
        parts += [f"`{protocol}`: {PROTOCOLS[protocol]}.", _table(grids, protocol, TABLE_3["mnist"])]
    parts += [_flags(folders, grids), "### Where the paper's numbers hold", HOLDING, _verdicts(grids)]
    parts += none_row.section(results) + sources.section(results)
    return [*parts, "### What an answer costs", _costs(folders[0]), _certified(folders[0])]


def _models(grids: list[Grid]) -> list[str]:
    return [model for model in model_titles() if any(key[1] == model for each in grids for key in each)]


def _seeds(grids: list[Grid]) -> str:
    several = [model_titles()[model] for model in _models(grids) if len(values(grids, "transfer", model, "none")) > 1]
    if not several:
        return "One seed."
    return f"Mean ± standard deviation over {len(grids)} seeds for {', '.join(several)}; one seed for the others."


def _table(grids: list[Grid], protocol: str, published: dict[str, dict[str, float]]) -> str:
    lines = []
    for model in _models(grids):
        found = [each[protocol, model] for each in grids if (protocol, model) in each]
        if not found:
            continue
        paper = published.get(model, {})
        texts = [_cell(values(grids, protocol, model, name), paper.get(name)) for name in SHOWN]
        lines.append([model_titles()[model], *texts, _images(found)])
    return markdown(Sheet(["model", *(column_titles()[name] for name in SHOWN), "images"], lines))


def _images(seeds: list[dict[str, Row]]) -> str:
    """How many test images, seed by seed where they differ."""
    return ", then ".join(dict.fromkeys(f"{usual(cells):,}" + _more(cells) for cells in seeds))


def _more(cells: dict[str, Row]) -> str:
    """FGSM is cheap, and so measured on more images than the rest."""
    images = usual(cells)
    other = {name: row.examples for name, row in cells.items() if name in TABLE_1_ATTACKS and row.examples != images}
    return "".join(f"; {column_titles()[name]} {count:,}" for name, count in other.items())


def _cell(ours: list[float], paper: float | None) -> str:
    return spread(ours) if paper is None else f"{spread(ours)} / {paper:.1f}"


def _flags(folders: list[Path], grids: list[Grid]) -> str:
    checks = [check for folder in folders for check in read_checks(folder)]
    flagged = [check for check in checks if check.flagged]
    grouped: dict[tuple[str, str], list[str]] = {}
    for each in flagged:
        grouped.setdefault((model_titles()[each.model], each.name), []).append(each.detail)
    lines = [f"- {model}: {name}: {_once(details)}" for (model, name), details in grouped.items()]
    seen = {check.model for check in checks}
    missing = [model_titles()[model] for model in _models(grids) if model not in seen and model != CONTROL]
    told = f"Masking checks: {len(checks)} made, {len(flagged)} flagged."
    return "\n".join([told + (f" Not checked: {', '.join(missing)}." if missing else ""), *lines])


def _once(details: list[str]) -> str:
    """What a flag says at the first seed that has it, and how many have it."""
    return details[0] + (f"; alike in {len(details)} seeds" if len(details) > 1 else "")


def _verdicts(grids: list[Grid]) -> str:
    """Defense by defense: the paper's average over the five attacks beside ours, and what the literature found."""
    lines = []
    for model in _models(grids):
        paper = TABLE_3["mnist"].get(model)
        told = [_against(grids, model, paper)] if paper else ["not in the paper."]
        if not paper:
            told.append(_ours(grids, model))
        if model in DEFENSES and DEFENSES[model].LITERATURE:
            told.append(f"Literature: {DEFENSES[model].LITERATURE}")
        lines.append(f"- **{model_titles()[model]}**: " + " ".join(text for text in told if text))
    return "\n".join(lines)


def _against(grids: list[Grid], model: str, paper: dict[str, float]) -> str:
    attacks = _attacks(grids, model)
    average = statistics.mean(paper[name] for name in attacks)
    told = []
    for protocol, ours in _averages(grids, model).items():
        told.append(f"{'holds' if ours >= average - HOLDS else 'does not hold'} under `{protocol}` ({ours:.1f})")
    return f"the paper's average over {_named(attacks)}, {average:.1f}, " + ", ".join(told) + "."


def _ours(grids: list[Grid], model: str) -> str:
    told = [f"{value:.1f} under `{protocol}`" for protocol, value in _averages(grids, model).items()]
    return f"Ours, average over {_named(_attacks(grids, model))}: {', '.join(told)}."


def _attacks(grids: list[Grid], model: str) -> list[str]:
    """Those of the five that were run on a model, under every protocol that it is judged under."""
    protocols = _protocols(grids, model)
    return [name for name in TABLE_1_ATTACKS if all(values(grids, each, model, name) for each in protocols)]


def _protocols(grids: list[Grid], model: str) -> list[Protocol]:
    """No undefended model is judged under a protocol that is for transfer from it, or to it, alone."""
    return [protocol for protocol in RANKED if any((protocol, model) in each for each in grids)]


def _named(attacks: list[str]) -> str:
    if len(attacks) == len(TABLE_1_ATTACKS):
        return "five attacks"
    return ", ".join(column_titles()[name] for name in attacks) + " alone"


def _averages(grids: list[Grid], model: str) -> dict[str, float]:
    """Protocol → over the attacks that were run, and the seeds."""
    attacks = _attacks(grids, model)
    return {
        protocol: statistics.mean(statistics.mean(values(grids, protocol, model, name)) for name in attacks)
        for protocol in _protocols(grids, model)
    }


def _costs(folder: Path) -> str:
    lines = []
    for model, taken in json.loads((folder / "times.json").read_text()).items():
        minutes, each = taken["fit_seconds"] / 60, taken["answer_milliseconds"]
        lines.append([model_titles()[model], f"{minutes:.1f}", f"{each:.3f}"])
    machine = json.loads((folder / "config.json").read_text())["machine"]
    about = f"{machine['processors']} processors, no GPU; of a random defense one draw, of its many."
    return "\n\n".join([markdown(Sheet(["model", "fit, minutes", "an answer, ms an image"], lines)), about])


def _certified(folder: Path) -> str:
    certified, held = certified_accuracy(folder)
    told = ", ".join(f"{radius:g}: {100 * certified[radius]:.1f} ({100 * held[radius]:.1f})" for radius in RADII)
    with np.load(folder / "certified.npz", allow_pickle=False) as stored:
        images, noises, sigma = len(stored["label"]), int(stored["noises"]), float(stored["sigma"])
    return (
        f"Randomized smoothing, σ = {sigma:g}, {images:,} images, {noises:,} noises, α = 0.001: per cent certified "
        f"within a Euclidean radius, and in brackets what an attack of that radius (PGD, EOT) leaves: {told}.\n\n"
        "![Certified accuracy and accuracy under attack, over the radius](certified.png)\n\n"
        "![What each defense makes of an image and of its adversarial example](gallery.png)\n\n"
        "Three test images; of each, x, what the classifier is shown of it, x′ made by PGD on that defense (20 steps, "
        "18/255), and what the classifier is shown of that. Predictions stand above, red where wrong, a dash where "
        "rejected."
    )
