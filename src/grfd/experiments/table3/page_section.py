"""The section on Table 3: GRFD beside its rivals under each protocol, from the records of all seeds."""

import json
import statistics
from pathlib import Path

import numpy as np

from grfd.attacks import TABLE_1_ATTACKS
from grfd.defenses import DEFENSES
from grfd.evaluation.case import CONTROL
from grfd.evaluation.numbers import column_titles, data_titles, grid, model_titles, rows, usual
from grfd.evaluation.protocols import COMPARED, PROTOCOLS, Protocol
from grfd.evaluation.records import read_settings
from grfd.evaluation.results import Row
from grfd.evaluation.spread import Grid, cell_text, values
from grfd.evaluation.stored import read_checks, read_evaluation
from grfd.experiments.paper import TABLE_3
from grfd.experiments.records import config_file_of, config_of, left_early
from grfd.experiments.table3.certificates import certified_text
from grfd.report.sheets import Sheet, markdown

_COMMITTED = {"mnist": ("paper",), "cifar10": ("medium", "small"), "cifar100": ("small",)}
"""Data set → the scales of which the page may be made: the first that is committed."""
_TOLERANCE = 2.0
"""A number of the paper is reproduced if the difference of ours from it is at most this many points."""

_HEAD = """## Table 3: GRFD beside its rivals

`grfd reproduce table3 --scale paper`. Each cell is ours / the paper's, in per cent. The paper names no protocol, so its
number is the same in each table. {seeds} A dash means: not measured, or not in the paper. The rivals are trained by
recipes of the literature, which their docstrings name; the paper does not say how it trained them. For a detector, a
clean image that it rejects counts as wrong, and an attacked image that it rejects as right. AA is the standard
AutoAttack. A3, where a table has it, is our own attack, and the paper does not have it. The first test images are
easier than the whole test set, so compare only cells with equal image counts. The worst case is the lowest of those on
the first 200, 500 and 1,000 images, each under all attacks that were run on at least these images. The last column has
the number of images of the first seed, then that of the other seeds where it differs."""

_VERDICTS = f"""Averages over the five attacks, or over those that were run, in per cent. Each attack counts on the
images that it met, and the tables say how many these are. *Reproduced*: ours is within {_TOLERANCE:g} points of the
paper's average. *Exceeded*: ours is higher. *Not reached*: ours is lower."""

_SMALL_HEAD = """## Table 3 on {title}, at a {scale} scale

`grfd reproduce table3 --dataset {data} --scale {scale}`: {model}, stage I for {epochs} epochs, classifiers for
{classifier_epochs}. {seeds} Images: {images}. The budgets are those of Table 1 for CIFAR (FGSM 8/255, PGD 1/255, AA,
EOTPGD and VMIFGSM 4/255). The paper's numbers belong to WRN-28-10 after 150 epochs and are not comparable:
None {none}, GRFD {grfd} (clean, FGSM, PGD, AA, EOTPGD, VMIFGSM)."""


def section(results: Path) -> list[str]:
    """The sections on MNIST and on smaller networks for CIFAR, if such runs are committed."""
    return _mnist_section(results) + _small_section(results, "cifar10") + _small_section(results, "cifar100")


def folders_of(results: Path, data: str) -> list[Path]:
    """The committed records of Table 3 on a data set, one folder for each seed."""
    found = (sorted((results / "table3").glob(f"{data}-{scale}-seed-*")) for scale in _COMMITTED[data])
    return next((folders for folders in found if folders), [])


def _not_measured(grids: list[Grid]) -> list[str]:
    """A sentence on the rivals of the paper that have no row, if there are any."""
    missing = [model_titles()[model] for model in TABLE_3["mnist"] if model not in _models(grids)]
    return [f"Not measured: {', '.join(missing)}."] if missing else []


def _small_section(results: Path, data: str) -> list[str]:
    """From a small network, and therefore without verdicts on the paper's numbers."""
    folders = folders_of(results, data)
    if not folders:
        return []
    grids = [grid(rows(folder)) for folder in folders]
    config = config_of(folders[0])
    evaluation = read_evaluation(folders[0], "images")
    paper = {
        model: " / ".join(f"{value:.2f}" for value in TABLE_3[data][model].values()) for model in ("standard", "grfd")
    }
    head = _SMALL_HEAD.format(
        title=data_titles()[data], data=data, scale=folders[0].name.split("-")[1], seeds=_seeds(grids),
        images=evaluation["images"], none=paper["standard"], grfd=paper["grfd"],
        model=config["model"] + (" in bfloat16" if config.get("precision") == "bfloat16" else ""),
        epochs=config["epochs"], classifier_epochs=config["classifier_epochs"],
    )  # fmt: skip
    parts = [head]
    for protocol in COMPARED:
        parts += [_caption(folders, protocol), _table(grids, protocol, {})]
    return [*parts, _flags(folders, grids), _costs(folders[0])]


def _mnist_section(results: Path) -> list[str]:
    folders = folders_of(results, "mnist")
    if not folders:
        return []
    grids = [grid(rows(folder)) for folder in folders]
    parts = [_HEAD.format(seeds=_seeds(grids)), *_not_measured(grids)]
    for protocol in COMPARED:
        parts += [_caption(folders, protocol), _table(grids, protocol, TABLE_3["mnist"])]
    parts += [_flags(folders, grids), "### Which of the paper's numbers are reproduced", _VERDICTS, _verdicts(grids)]
    return [*parts, "### What a defense costs", _costs(folders[0]), _certified(folders[0])]


def _caption(folders: list[Path], protocol: Protocol) -> str:
    """What the attacker knows, with a † if the records are of examples that left their attack early."""
    settings = [read_settings(path) for folder in folders for path in folder.glob(f"records/*/{protocol}/*.npz")]
    early = protocol in ("transfer", "adaptive") and any(map(left_early, settings))
    mark = " † These numbers are too high: see the warning at the top of this page." if early else ""
    return f"`{protocol}`: {PROTOCOLS[protocol]}.{mark}"


def _models(grids: list[Grid]) -> list[str]:
    return [model for model in model_titles() if any(key[1] == model for each in grids for key in each)]


def _seeds(grids: list[Grid]) -> str:
    several = [model_titles()[model] for model in _models(grids) if len(values(grids, "transfer", model, "none")) > 1]
    if not several:
        return "One seed."
    return f"Mean ± standard deviation over {len(grids)} seeds for {', '.join(several)}; one seed for the others."


def _table(grids: list[Grid], protocol: str, published: dict[str, dict[str, float]]) -> str:
    lines, names = [], _columns(grids)
    for model in _models(grids):
        rows_of_seeds = [each[protocol, model] for each in grids if (protocol, model) in each]
        if not rows_of_seeds:
            continue
        paper = published.get(model, {})
        texts = [_cell(cell_text(grids, protocol, model, name), paper.get(name)) for name in names]
        lines.append([model_titles()[model], *texts, _images(rows_of_seeds)])
    return markdown(Sheet(["model", *(column_titles()[name] for name in names), "images"], lines))


def _columns(grids: list[Grid]) -> list[str]:
    """Clean accuracy, the attacks of the paper and A3, where it was run, and the worst case."""
    recorded = {name for each in grids for cells in each.values() for name in cells}
    return ["none", *TABLE_1_ATTACKS, *(["a3"] if "a3" in recorded else []), "worst"]


def _images(seeds: list[dict[str, Row]]) -> str:
    """The number of test images, for each seed if it differs."""
    return ", then ".join(dict.fromkeys(f"{usual(cells):,}" + _more(cells) for cells in seeds))


def _more(cells: dict[str, Row]) -> str:
    """The attacks that were run on another number of images: FGSM and A3 are cheap. Also that of the worst case."""
    images = usual(cells)
    shown = (*TABLE_1_ATTACKS, "a3", "worst")
    other = {name: row.examples for name, row in cells.items() if name in shown and row.examples != images}
    return "".join(f"; {column_titles()[name]} {count:,}" for name, count in other.items())


def _cell(ours: str, paper: float | None) -> str:
    return ours if paper is None else f"{ours} / {paper:.1f}"


def _flags(folders: list[Path], grids: list[Grid]) -> str:
    seeds = [read_checks(folder) for folder in folders]
    checks = [check for found in seeds for check in found]
    flagged = [check for check in checks if check.flagged]
    grouped: dict[tuple[str, str], list[list[str]]] = {}
    for found in seeds:
        of_seed: dict[tuple[str, str], list[str]] = {}
        for each in (check for check in found if check.flagged):
            of_seed.setdefault((model_titles()[each.model], each.name), []).append(each.detail)
        for key, details in of_seed.items():
            grouped.setdefault(key, []).append(details)
    lines = [f"- {model}: {name}: {_once(details)}" for (model, name), details in grouped.items()]
    checked = {check.model for check in checks}
    missing = [model_titles()[model] for model in _models(grids) if model not in checked and model != CONTROL]
    head = f"Masking checks: {len(checks)} made, {len(flagged)} flagged."
    return "\n".join([head + (f" Not checked: {', '.join(missing)}." if missing else ""), *lines])


def _once(details: list[list[str]]) -> str:
    """The details of the first seed, and the number of seeds with this flag."""
    return "; ".join(details[0]) + (f" (similar in {len(details)} seeds)" if len(details) > 1 else "")


def _verdicts(grids: list[Grid]) -> str:
    """For each defense the paper's average over the five attacks, ours, and what the literature says."""
    lines = []
    for model in _models(grids):
        paper = TABLE_3["mnist"].get(model)
        texts = [_against_paper(grids, model, paper) if paper else f"not in the paper. {_our_averages(grids, model)}"]
        if model in DEFENSES and DEFENSES[model].LITERATURE:
            texts.append(f"Literature: {DEFENSES[model].LITERATURE}")
        lines.append(f"- **{model_titles()[model]}**: " + " ".join(texts))
    return "\n".join(lines)


def verdict(ours: float, paper: float) -> str:
    """Whether a number of the paper, in per cent, is reproduced, exceeded or not reached."""
    if abs(ours - paper) <= _TOLERANCE:
        return "reproduced"
    return "exceeded" if ours > paper else "not reached"


def _against_paper(grids: list[Grid], model: str, paper: dict[str, float]) -> str:
    attacks = _attacks(grids, model)
    average = statistics.mean(paper[name] for name in attacks)
    verdicts = [
        f"*{verdict(ours, average)}* under `{protocol}` ({ours:.1f})"
        for protocol, ours in _averages(grids, model).items()
    ]
    return f"the paper's average over {_named(attacks)}, {average:.1f}, is {', '.join(verdicts)}."


def _our_averages(grids: list[Grid], model: str) -> str:
    texts = [f"{value:.1f} under `{protocol}`" for protocol, value in _averages(grids, model).items()]
    return f"Our average over {_named(_attacks(grids, model))}: {', '.join(texts)}."


def _attacks(grids: list[Grid], model: str) -> list[str]:
    """The attacks of Table 1 that were run on a model under every protocol under which it is judged."""
    protocols = _protocols(grids, model)
    return [name for name in TABLE_1_ATTACKS if all(values(grids, each, model, name) for each in protocols)]


def _protocols(grids: list[Grid], model: str) -> list[Protocol]:
    """The protocols under which a model is judged: the source of transferred examples lacks `transfer`."""
    return [protocol for protocol in COMPARED if any((protocol, model) in each for each in grids)]


def _named(attacks: list[str]) -> str:
    if len(attacks) == len(TABLE_1_ATTACKS):
        return "the five attacks"
    return ", ".join(column_titles()[name] for name in attacks) + " only"


def _averages(grids: list[Grid], model: str) -> dict[str, float]:
    """Protocol → mean over the attacks that were run and over the seeds."""
    attacks = _attacks(grids, model)
    return {
        protocol: statistics.mean(statistics.mean(values(grids, protocol, model, name)) for name in attacks)
        for protocol in _protocols(grids, model)
    }


def _costs(folder: Path) -> str:
    lines = []
    for model, cost in json.loads((folder / "times.json").read_text()).items():
        minutes, milliseconds = cost["fit_seconds"] / 60, cost["answer_milliseconds"]
        lines.append([model_titles()[model], f"{minutes:.1f}", f"{milliseconds:.3f}"])
    sheet = Sheet(["model", "fit, minutes", "an answer, ms an image"], lines)
    processors = config_file_of(folder)["machine"]["processors"]
    return f"{markdown(sheet)}\n\n{processors} processors, no GPU. For a random defense this is one draw of its many."


def _certified(folder: Path) -> str:
    with np.load(folder / "certified.npz", allow_pickle=False) as stored:
        images, noises, sigma = len(stored["label"]), int(stored["noises"]), float(stored["sigma"])
    return (
        f"Randomized smoothing, σ = {sigma:g}, {images:,} images, {noises:,} noises, α = 0.001. For each Euclidean "
        "radius, the per cent of images that are certified, and in brackets the per cent that an attack of that radius "
        f"(PGD with EOT) leaves: {certified_text(folder)}.\n\n"
        "![Certified accuracy and accuracy under attack, over the radius](certified.png)\n\n"
        "![What each defense makes of an image and of its adversarial example](gallery.png)\n\n"
        "The figure shows three test images. For each of them it shows x, what the defense gives its classifier for x, "
        "x′, which PGD made on that defense (20 steps, 18/255), and what the defense gives its classifier for x′. "
        "Predictions stand above the images: red if wrong, a dash if rejected."
    )
