"""The page's sections on Table 2, Figures 2, 4a and 4b and the readings, from records of variants of one schedule."""

import json
from pathlib import Path

from grfd.evaluation.numbers import column_titles
from grfd.evaluation.protocols import Protocol
from grfd.evaluation.stored import read_evaluation
from grfd.experiments.latents import LATENTS, draw_figure_2, figure_2
from grfd.experiments.variant_figures import draw_figure_4a, draw_figure_4b
from grfd.experiments.variant_numbers import (
    CASES,
    PROTOCOLS,
    VARIANTS,
    Judged,
    attacks_of,
    name_of,
    rank_correlation,
    read,
    readings,
    shares,
)
from grfd.experiments.variant_numbers import figure_4a as sheet_4a
from grfd.experiments.variant_numbers import figure_4b as sheet_4b
from grfd.experiments.variant_numbers import table_2 as sheet_2
from grfd.report.sheets import markdown

FOLDERS = "variants-short-seed"
"""Beginning of the folder names in results/."""


def section(results: Path) -> list[str]:
    """Paragraphs and tables; none where no such records are committed."""
    folders = _folders(results)
    if not folders:
        return []
    judged = read(folders)
    return [_about(judged), *_table_2(judged), *_figure_2(folders), *_figure_4a(judged), *_figure_4b(judged),
            *_readings(judged)]  # fmt: skip


def draw(results: Path, docs: Path) -> list[Path]:
    """The figures that the sections show, beside the page."""
    folders = _folders(results)
    if not folders:
        return []
    judged, made = read(folders), []
    if all((folder / LATENTS).exists() for folder in folders):
        made += draw_figure_2(folders[0], docs / "fig2")
    if _has_cases(judged):
        made += draw_figure_4a(judged, docs / "fig4a")
    if _has_shares(judged):
        made += draw_figure_4b(judged, docs / "fig4b")
    return made


def _folders(results: Path) -> list[Path]:
    return [folder for folder in sorted(results.glob(f"{FOLDERS}-*")) if (folder / VARIANTS).exists()]


def _has_cases(judged: Judged) -> bool:
    return all(name_of(judged, changes) for changes in CASES.values())


def _has_shares(judged: Judged) -> bool:
    return all(len(found) > 1 for found in shares(judged).values())


def _about(judged: Judged) -> str:
    about = json.loads((judged.folders[0] / "config.json").read_text())
    config, evaluated = about["config"], read_evaluation(judged.folders[0], "examples")
    count = len(judged.folders)
    seeds = f"{count} seeds, mean ± standard deviation" if count > 1 else "one seed"
    attacks = ", ".join(column_titles()[name] for name in attacks_of(judged))
    return (
        "## GRFD's parts and weights on a short schedule\n\n"
        f"Stage I {config['epochs']} epochs at a learning rate of {config['learning_rate']:g}, classifiers "
        f"{config['classifier_epochs']} epochs, latent {config['latent']}; {seeds}; {evaluated['examples']} test "
        f"images under {attacks}, AA the standard AutoAttack. The paper trains stage I for 150 epochs, so its numbers "
        "are of another schedule; all rows here share theirs. Averages are over the attacks. Records: "
        f"`results/{judged.folders[0].name}` and those beside it."
    )


def _table_2(judged: Judged) -> list[str]:
    sheets = {protocol: sheet_2(judged, protocol) for protocol in PROTOCOLS}
    if not any(len(sheet.rows) > 1 for sheet in sheets.values()):
        return []
    parts = [
        "### Table 2: the weights of eq. 6",
        "`grfd reproduce table2`. Each cell is ours / the paper's, in per cent.",
    ]
    for protocol, sheet in sheets.items():
        parts += [f"`{protocol}`:", markdown(sheet), _likeness(judged, protocol)]
    return parts


def _likeness(judged: Judged, protocol: Protocol) -> str:
    """Whether the rows come in the paper's order."""
    found, config = rank_correlation(judged, protocol), json.loads((judged.folders[0] / "config.json").read_text())
    if found is None or config["config"]["data"] != "mnist":
        return ""
    return f"The rows' averages beside the paper's: Spearman's rank correlation {found[0]:+.2f} (p = {found[1]:.2f})."


def _figure_2(folders: list[Path]) -> list[str]:
    found = [folder for folder in folders if (folder / LATENTS).exists()]
    if not found:
        return []
    return [
        "### Figure 2: the latent variables with and without the rectification head",
        "`grfd reproduce fig2`. Of μ of 2,000 test images: silhouette of the classes, and the accuracy of a linear "
        "probe and of 10 nearest neighbours, both trained on μ of 5,000 training images.",
        markdown(figure_2(found)),
        "![Latent variables, PCA and t-SNE](fig2.png)",
    ]


def _figure_4a(judged: Judged) -> list[str]:
    if not _has_cases(judged):
        return []
    return [
        "### Figure 4a: the parts of GRFD",
        "`grfd reproduce fig4a`. Under `transfer`, case 1 is the second standard model.",
        markdown(sheet_4a(judged)),
        "![Accuracy by case, attack and protocol](fig4a.png)",
    ]


def _figure_4b(judged: Judged) -> list[str]:
    if not _has_shares(judged):
        return []
    return [
        "### Figure 4b: fewer training images",
        "`grfd reproduce fig4b`. Ours / the paper's, where its text says a number. The standard model, on which "
        "transferred examples are made, has seen all images; an epoch of fewer images has fewer steps.",
        markdown(sheet_4b(judged)),
        "![Accuracy by share of the training images](fig4b.png)",
    ]


def _readings(judged: Judged) -> list[str]:
    sheet = readings(judged)
    if len(sheet.rows) < 2:
        return []
    return [
        "### Which gaps of the paper matter",
        "`grfd reproduce readings`. The first line is the default; every other changes one reading; p is McNemar's "
        "exact test of its worst case against the default's, on the same images of all seeds. L_cl and L_rb are those "
        "of the last epoch of stage I.",
        markdown(sheet),
    ]
