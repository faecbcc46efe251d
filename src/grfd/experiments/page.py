"""docs/reproduction.md: the paper's numbers beside ours, derived from the records in results/ and from nothing else."""

import json
import math
from pathlib import Path
from typing import Any

from grfd import runs
from grfd.errors import UserError
from grfd.evaluation.numbers import Row, column_titles, columns, grid, model_titles, rows, usual
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.records import read_records, read_settings
from grfd.evaluation.spread import spread, values
from grfd.evaluation.stored import read_checks
from grfd.experiments import rsm_section as rsm
from grfd.experiments import variant_sections
from grfd.experiments.paper import PAPER_ATTACKS, TABLE_3, published
from grfd.experiments.robust import section as robust_section
from grfd.experiments.table3 import section as rivals
from grfd.report.sheets import Sheet, markdown
from grfd.report.table import cell

LONG = "mnist-lenet5"
"""Folder in results/ of the run at the paper's 150 epochs."""
SEEDS = "mnist-lenet5-short-seed"
"""Beginning of the folder names of one shorter schedule under several seeds."""


STOPPED = "stopped-150-epochs"
"""A run at the paper's schedule that was not finished: its losses alone."""
RELAPSE = 0.1
"""L_rb is said to relapse where it ends so much above its best epoch; a cosine lies in [−1, 1]."""


def write_page(results: Path, out: Path) -> None:
    """Writes the page, and beside it the figures that it shows. Raises `UserError` where the records are not there."""
    runs.write_bytes(out, page(results).encode())
    variant_sections.draw(results, out.parent)
    robust_section.draw(results, out.parent)


def page(results: Path) -> str:
    """The page's text."""
    long, seeds = results / LONG, sorted(results.glob(f"{SEEDS}-*"))
    parts = [HEAD, early_exit(results)]
    if (long / "config.json").exists():
        parts += ["## One run at the paper's schedule", _about(long), _table(rows(long))]
        parts += [likeness(rows(long)), _course(long), _curve(long), _checks(long)]
    if seeds:
        parts += ["## A shorter schedule, several seeds", _about(seeds[0], len(seeds)), _spread(seeds)]
        parts += [_checks(folder) for folder in seeds]
    parts += rivals.section(results)
    parts += rivals.small_section(results, "cifar10") + rivals.small_section(results, "cifar100")
    parts += variant_sections.section(results) + rsm.section(results) + robust_section.section(results)
    if (results / STOPPED / "metrics.jsonl").exists():
        parts += ["## The paper's schedule at another learning rate, stopped", _stopped(results / STOPPED)]
        parts += [_course(results / STOPPED), _curve(results / STOPPED)]
    if len(parts) == 2:
        raise UserError(f"{results} holds no evaluated run named {LONG} or {SEEDS}-N")
    return "\n\n".join(part for part in parts if part) + "\n"


HEAD = (
    """# Reproduction: GRFD on MNIST, paper and ours side by side

*Written by `grfd page` from the records in `results/`; a test derives it again and fails where it differs. Do not
edit.* Accuracy in per cent on MNIST's first test images, attacks and budgets of the paper's Table 1 (ε in pixels of
[0, 1]: FGSM 26/255; PGD, EOTPGD, VMIFGSM 18/255, steps of 8/255, 100 of them; AA 20/255, of which each section says
what it is). The paper names no protocol. "Worst case" is the share of images that are right under *every* attack of the
line. A number in brackets says on how many images, where that differs from the last column.

What the attacker knows:

"""
    + "\n".join(f"- `{name}`: {meaning}" for name, meaning in PROTOCOLS.items())
    + """

"Standard" is the undefended LeNet5 on which transferred examples are made; "2nd standard" is another undefended LeNet5,
of another seed: what it keeps under `transfer` is no defense at all."""
)


def early_exit(results: Path) -> str:
    """A warning that names the folders whose transferred examples left the attack at their first success; "" if none.

    Records say so themselves: those of all steps hold the settings of the transfer.
    """
    old = sorted({_run_of(results, path) for path in results.rglob("records/*/transfer/*.npz") if _left_early(path)})
    if not old:
        return ""
    names = ", ".join(f"`{name}`" for name in old)
    return (
        "**Warning: some numbers under `transfer` and `adaptive` on this page are too high.** In the records of the "
        "folders named here, a transferred example left its attack at its first success, just behind the decision "
        "boundary of the model that it was made on. Such examples transfer badly (docs/attacks.md has the comparison). "
        "`adaptive`, which takes over what `transfer` found, is affected too; `whitebox` and `residual` are not. They "
        f"will be measured again: {names}."
    )


def _run_of(results: Path, path: Path) -> str:
    return path.relative_to(results).parents[3].as_posix()


def _left_early(path: Path) -> bool:
    return "transfer" not in read_settings(path)


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def _about(folder: Path, count: int = 1) -> str:
    about = _config(folder)
    config, machine = about["config"], about["machine"]
    metrics = _metrics(folder)
    minutes = sum(row["seconds"] for row in metrics) / 60
    seeds = f"{count} seeds" if count > 1 else f"seed {config['seed']}"
    # records of before the classifiers had a rate of their own
    rate = config.get("classifier_learning_rate", config["learning_rate"])
    return (
        f"Stage I {config['epochs']} epochs at a learning rate of {config['learning_rate']:g}, classifiers "
        f"{config['classifier_epochs']} epochs at {rate:g}, {seeds}; "
        f"latent {config['latent']}, ε {config['epsilon']}, γ {config['gamma']}, δ {config['delta']}, "
        f"β {config['beta']}; "
        f"PyTorch {about['versions']['torch']}, {machine['processors']} processors, {machine['threads']} threads; "
        f"all training together {minutes:.0f} minutes{' for the first seed' if count > 1 else ''}. "
        f"{_autoattack(folder)} Records: "
        f"`results/{folder.name}`."
    )


def _autoattack(folder: Path) -> str:
    """What was run as AA, by the records: early ones have its first two parts alone."""
    kinds = {record.settings["attack"].get("version") for key, record in read_records(folder).items() if key[2] == "aa"}
    names = {"standard": "the standard AutoAttack", None: "APGD-CE and APGD-T, AutoAttack's first two parts"}
    return f"AA is {' or '.join(names.get(kind, str(kind)) for kind in kinds)}." if kinds else ""


def _stopped(folder: Path) -> str:
    config, last = _config(folder)["config"], _stage_one(folder)[-1]
    return (
        f"Learning rate {config['learning_rate']:g}; stopped after epoch {last['epoch']} of {config['epochs']}, so "
        f"there is no table. Records: `results/{folder.name}`."
    )


def _course(folder: Path) -> str:
    """Whether stage I held what it had reached."""
    stage = _stage_one(folder)
    best, last = min(stage, key=lambda row: row["rb"]), stage[-1]
    told = (
        f"In stage I, L_cl fell from {stage[0]['cl']:.3f} to {last['cl']:.3f}. L_rb was best in epoch {best['epoch']} "
        f"({best['rb']:.3f}) and stood at {last['rb']:.3f} in epoch {last['epoch']}"
    )
    if last["rb"] - best["rb"] < RELAPSE:
        return told + "."
    return told + ": it relapses; `docs/decisions.md` says what was seen of the cause."


def _stage_one(folder: Path) -> list[dict[str, Any]]:
    return [row for row in _metrics(folder) if row["stage"] == "stage-one"]


def _table(numbers: list[Row]) -> str:
    shown = columns(numbers)
    lines = []
    for (protocol, model), cells in grid(numbers).items():
        images = usual(cells)
        texts = [cell(cells.get(name), images) for name in shown]
        lines.append([f"`{protocol}`", model_titles().get(model, model), *texts, f"{images:,}"])
    return _sheet(shown, [*lines, *_paper(shown, numbers)])


def likeness(numbers: list[Row]) -> str:
    """Which line of ours the paper's numbers for GRFD are nearest to: what it may have measured."""
    published = TABLE_3["mnist"]["grfd"]
    lines = []
    for (protocol, model), cells in grid(numbers).items():
        differences = {}
        for name in PAPER_ATTACKS:
            # the standard AutoAttack where TorchAttacks' was not run
            ours = cells.get(name) or cells.get(name.removesuffix("_torchattacks"))
            if ours is not None:
                differences[ours.attack] = published[name.removesuffix("_torchattacks")] - 100 * ours.accuracy
        if len(differences) == len(PAPER_ATTACKS):
            lines.append((sum(map(abs, differences.values())) / len(differences), protocol, model, differences))
    if not lines:
        return ""
    texts = [
        [f"`{protocol}`", model_titles().get(model, model), f"{mean:.1f}",
         ", ".join(f"{column_titles()[name]} {value:+.1f}" for name, value in differences.items())]
        for mean, protocol, model, differences in sorted(lines, key=lambda line: line[0])
    ]  # fmt: skip
    header = ["protocol", "model", "mean difference", "paper's GRFD less ours, in points"]
    text = (
        "**What did the paper measure?** It names no protocol. Here are the lines of the table above, ordered by how "
        "near they are to the numbers that the paper prints for GRFD (by the mean of the absolute differences). AA is "
        "what TorchAttacks returns, where that was run, since it is the paper's library.\n\n"
    )
    return text + markdown(Sheet(header, texts, left=2))


def _sheet(shown: list[str], lines: list[list[str]]) -> str:
    return markdown(Sheet(["protocol", "model", *(column_titles()[name] for name in shown), "images"], lines, left=2))


def _paper(shown: list[str], numbers: list[Row]) -> list[list[str]]:
    found = []
    for method, accuracies in published(numbers, "mnist").items():
        texts = [f"{accuracies[name]:.2f}" if name in accuracies else "–" for name in shown]
        found.append(["paper, none named", method, *texts, "10,000"])
    return found


def _spread(folders: list[Path]) -> str:
    """Mean ± standard deviation over seeds."""
    grids = [grid(rows(folder)) for folder in folders]
    numbers = [row for folder in folders for row in rows(folder)]
    shown = columns(numbers)
    lines = []
    for key, first in grids[0].items():
        texts = [spread(values(grids, *key, name)) for name in shown]
        lines.append([f"`{key[0]}`", model_titles().get(key[1], key[1]), *texts, f"{usual(first):,}"])
    return _sheet(shown, [*lines, *_paper(shown, numbers)])


def _metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _curve(folder: Path) -> str:
    """Stage I's five terms at some epochs."""
    stage = _stage_one(folder)
    if not stage:
        return ""
    terms = ["rc", "kl", "rf", "cl", "rb"]
    step = max(math.ceil(len(stage) / 15), 1)
    chosen = [row for index, row in enumerate(stage) if index % step == 0 or index == len(stage) - 1]
    lines = [[str(row["epoch"]), *(f"{row[term]:.3f}" for term in terms)] for row in chosen]
    sheet = Sheet(["epoch", *(f"L_{term}" for term in terms)], lines, left=0)
    return "Stage I, mean of each term of eq. 6 over an epoch (all epochs: `metrics.jsonl`):\n\n" + markdown(sheet)


def _checks(folder: Path) -> str:
    checks = read_checks(folder)
    flagged = [check for check in checks if check.flagged]
    head = f"Masking checks of `{folder.name}`: {len(checks)} made, {len(flagged)} flagged."
    return "\n".join([head, *(f"- {each.model}: {each.name}: {each.detail}" for each in flagged)])
