"""The first part of the page: GRFD beside no defense, trained with the paper's schedule."""

import math
from pathlib import Path

from grfd.evaluation.numbers import column_titles, columns, grid, model_titles, rows, usual
from grfd.evaluation.records import read_records
from grfd.evaluation.results import Row
from grfd.evaluation.stored import read_checks
from grfd.experiments.paper import PAPER_ATTACKS, TABLE_3, published_rows
from grfd.experiments.records import config_file_of, config_of, metrics_of, stage_one_of
from grfd.report.sheets import Sheet, markdown
from grfd.report.table import cell

LONG = "mnist-lenet5"
"""The folder in results/ of the run with the paper's 150 epochs of stage I."""
_STOPPED = "stopped-150-epochs"
"""The folder in results/ of an unfinished run with the paper's schedule, which has no records but its losses."""
_RELAPSE = 0.1
"""L_rb, a cosine in [−1, 1], has relapsed if it ends this much above its best epoch."""


def section(results: Path) -> list[str]:
    """The run with the paper's schedule; empty if it is not committed."""
    long = results / LONG
    if not (long / "config.json").exists():
        return []
    numbers = rows(long)
    parts = ["## One run at the paper's schedule", _about(long), _table(numbers), _likeness(numbers)]
    return [*parts, _course(long), _curve(long), _checks(long)]


def stopped_section(results: Path) -> list[str]:
    """The losses of the unfinished run; empty if it is not committed."""
    folder = results / _STOPPED
    if not (folder / "metrics.jsonl").exists():
        return []
    title = "## The paper's schedule at another learning rate, stopped"
    return [title, _stopped(folder), _course(folder), _curve(folder)]


def _about(folder: Path) -> str:
    about = config_file_of(folder)
    config, machine = about["config"], about["machine"]
    minutes = sum(line["seconds"] for line in metrics_of(folder)) / 60
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    # old records are from a time when the classifiers had no learning rate of their own
    rate = config.get("classifier_learning_rate", config["learning_rate"])
    return (
        f"Stage I was trained for {config['epochs']} epochs at a learning rate of {config['learning_rate']:g}, the "
        f"classifiers for {config['classifier_epochs']} epochs at {rate:g} (seed {config['seed']}), with "
        f"{config['latent']} latent variables, ε = {config['epsilon']}, γ = {config['gamma']}, δ = {config['delta']} "
        f"and β = {config['beta']}. All training took {minutes:.0f} minutes with PyTorch {about['versions']['torch']}, "
        f"{threads} on {machine['processors']} processors. {_autoattack(folder)} Records: `results/{folder.name}`."
    )


def _table(numbers: list[Row]) -> str:
    names = columns(numbers)
    lines = []
    for (protocol, model), cells in grid(numbers).items():
        images = usual(cells)
        texts = [cell(cells.get(name), images) for name in names]
        lines.append([f"`{protocol}`", model_titles().get(model, model), *texts, f"{images:,}"])
    return _sheet(names, [*lines, *_paper(names, numbers)])


def _likeness(numbers: list[Row]) -> str:
    """Our rows by their distance to the paper's numbers for GRFD, which suggests what the paper measured."""
    paper = TABLE_3["mnist"]["grfd"]
    lines = []
    for (protocol, model), cells in grid(numbers).items():
        differences = {}
        for name in PAPER_ATTACKS:
            # the standard AutoAttack if the one of TorchAttacks was not run
            ours = cells.get(name) or cells.get(name.removesuffix("_torchattacks"))
            if ours is not None:
                differences[ours.attack] = paper[name.removesuffix("_torchattacks")] - 100 * ours.accuracy
        if len(differences) == len(PAPER_ATTACKS):
            lines.append((sum(map(abs, differences.values())) / len(differences), protocol, model, differences))
    if not lines:
        return ""
    texts = [
        [f"`{protocol}`", model_titles().get(model, model), f"{mean:.1f}",
         ", ".join(f"{column_titles()[name]} {value:+.1f}" for name, value in differences.items())]
        for mean, protocol, model, differences in sorted(lines, key=lambda line: line[0])
    ]  # fmt: skip
    header = ["protocol", "model", "mean distance", "the paper's GRFD minus ours, in points"]
    text = (
        "**What did the paper measure?** Here the rows of the table above are ordered by their distance to the "
        "numbers that the paper prints for GRFD, which is the mean of the absolute differences. For AA, the version of "
        "TorchAttacks counts where it was run, because the paper used that library.\n\n"
    )
    return text + markdown(Sheet(header, texts, left=2))


def _sheet(names: list[str], lines: list[list[str]]) -> str:
    return markdown(Sheet(["protocol", "model", *(column_titles()[name] for name in names), "images"], lines, left=2))


def _paper(names: list[str], numbers: list[Row]) -> list[list[str]]:
    lines = []
    for method, accuracies in published_rows(numbers, "mnist").items():
        texts = [f"{accuracies[name]:.2f}" if name in accuracies else "–" for name in names]
        lines.append(["not named", f"{method} (paper)", *texts, "10,000"])
    return lines


def _course(folder: Path) -> str:
    """How L_cl and L_rb developed in stage I, and whether L_rb relapsed."""
    stage = stage_one_of(folder)
    best, last = min(stage, key=lambda line: line["rb"]), stage[-1]
    text = (
        f"In stage I, L_cl fell from {stage[0]['cl']:.3f} to {last['cl']:.3f}. L_rb was best in epoch {best['epoch']} "
        f"({best['rb']:.3f}) and ended at {last['rb']:.3f} in epoch {last['epoch']}."
    )
    if last["rb"] - best["rb"] < _RELAPSE:
        return text
    return text + " So it relapsed; [what was measured](measured.md) says what is known of the cause."


def _curve(folder: Path) -> str:
    """The five terms of stage I at up to 17 epochs."""
    stage = stage_one_of(folder)
    if not stage:
        return ""
    terms = ["rc", "kl", "rf", "cl", "rb"]
    step = max(math.ceil(len(stage) / 15), 1)
    chosen = [row for index, row in enumerate(stage) if index % step == 0 or index == len(stage) - 1]
    lines = [[str(row["epoch"]), *(f"{row[term]:.3f}" for term in terms)] for row in chosen]
    sheet = Sheet(["epoch", *(f"L_{term}" for term in terms)], lines, left=0)
    return "The terms of stage I, each as its mean over the epoch (`metrics.jsonl` has all epochs):\n\n" + markdown(
        sheet
    )


def _stopped(folder: Path) -> str:
    config, last = config_of(folder), stage_one_of(folder)[-1]
    return (
        f"This run had a learning rate of {config['learning_rate']:g} and was stopped after epoch {last['epoch']} of "
        f"{config['epochs']}, so it has no table. Its losses are in `results/{folder.name}`."
    )


def _autoattack(folder: Path) -> str:
    """Which version of AutoAttack the records are of: the oldest have only its first two parts."""
    kinds = {record.settings["attack"].get("version") for key, record in read_records(folder).items() if key[2] == "aa"}
    names = {"standard": "the standard AutoAttack", None: "APGD-CE and APGD-T, the first two parts of AutoAttack"}
    return f"AA is {' or '.join(names.get(kind, str(kind)) for kind in kinds)}." if kinds else ""


def _checks(folder: Path) -> str:
    checks = read_checks(folder)
    flagged = [check for check in checks if check.flagged]
    head = f"Masking checks of `{folder.name}`: {len(checks)} were run, {len(flagged)} flagged."
    return "\n".join([head, *(f"- {each.model}: {each.name}: {each.detail}" for each in flagged)])
