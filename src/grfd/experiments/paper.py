"""The numbers that Li et al. 2025 print: accuracies in per cent, under a protocol that the paper does not name."""

from collections.abc import Iterable

from grfd.attacks import TABLE_1_ATTACKS
from grfd.evaluation.numbers import model_titles
from grfd.evaluation.results import Row

PAPER_ATTACKS = tuple("aa_torchattacks" if name == "aa" else name for name in TABLE_1_ATTACKS)
"""The five attacks as the paper most probably ran them: with TorchAttacks, whose AutoAttack takes ten steps."""

_MODELS = ("standard", "bit-depth", "feature-squeezing", "cd-vae", "randomized-smoothing", "gradient-regularisation",
           "ape-gan", "diffpure", "grfd")  # fmt: skip
_TABLE_3 = {
    "mnist": """
        99.18 97.23 97.85 97.28 98.70 97.60 97.45 98.10 98.82
        76.63 78.39 80.12 30.78 83.43 82.50 84.52 85.30 88.19
        58.52 65.26 70.45 38.18 93.28 90.20 89.16 92.80 95.59
        38.47 69.41 75.30 59.82 89.56 88.90 92.38 93.50 95.44
        58.80 72.35 78.20 38.02 91.20 90.10 94.23 94.00 95.68
        54.51 64.12 70.80 37.85 93.62 92.30 94.58 93.20 93.55""",
    "cifar10": """
        94.76 86.41 87.20 87.67 85.65 86.80 88.12 87.50 84.75
        35.85 52.98 60.30 65.47 69.96 68.40 70.56 72.10 78.81
         9.36 43.57 50.25 59.06 62.86 61.80 71.23 70.50 78.98
         8.19 41.85 55.60 60.33 68.59 67.30 73.42 74.80 79.17
         0.21 45.46 50.10 62.56 58.78 60.20 72.26 73.50 75.97
         0.21 44.82 55.80 63.42 65.42 64.90 74.22 74.58 73.12""",
    "cifar100": """
        73.66 60.23 62.50 64.11 64.23 63.80 64.94 64.20 63.20
        17.43 36.54 45.30 46.98 52.31 50.80 59.12 58.50 58.18
         5.23 28.75 40.20 52.19 49.45 48.90 57.88 57.20 59.74
         4.89 26.86 42.10 49.34 47.62 47.30 59.85 59.50 60.45
         0.14 42.19 45.80 45.97 56.86 55.20 58.83 57.60 57.41
         0.15 38.44 44.90 44.23 54.13 53.80 57.36 56.90 58.78""",
}


def _read_table_3(text: str) -> dict[str, dict[str, float]]:
    """The first line is clean accuracy, each other line one attack; a column is one model."""
    lines = [[float(number) for number in line.split()] for line in text.strip().split("\n")]
    columns = zip(*lines, strict=True)
    named = zip(_MODELS, columns, strict=True)
    return {model: dict(zip(("none", *TABLE_1_ATTACKS), column, strict=True)) for model, column in named}


TABLE_3 = {dataset: _read_table_3(text) for dataset, text in _TABLE_3.items()}
"""Data set → model → attack → accuracy; "none" is clean accuracy. For GRFD on MNIST under AA and EOTPGD, Table 2 prints
95.59, but its average, 93.69, only fits the values of Table 3, which are used here."""

_TABLE_2 = """
0.6 0.4 0.0  98.51 61.22 67.57 77.73 67.80 65.26
0.6 0.4 0.4  98.64 79.34 91.50 89.73 91.45 88.39
0.5 0.3 0.2  98.58 75.75 90.53 88.17 90.37 87.55
0.5 0.4 0.2  98.32 74.23 88.23 88.07 87.63 86.49
0.5 0.5 0.2  98.54 75.76 90.90 89.95 90.96 86.20
0.6 0.3 0.2  98.54 73.80 85.80 84.18 86.35 81.79
0.6 0.4 0.2  98.82 88.19 95.59 95.44 95.68 93.55
0.6 0.5 0.2  98.15 59.85 85.49 83.75 85.54 83.62
0.7 0.3 0.2  98.43 64.10 86.97 85.79 86.99 83.09
0.7 0.4 0.2  98.79 88.75 95.14 94.21 95.10 93.90
0.7 0.5 0.2  98.62 84.33 91.67 90.64 91.57 88.49
"""


def _read_table_2() -> dict[tuple[float, float, float], dict[str, float]]:
    lines = [[float(text) for text in line.split()] for line in _TABLE_2.split("\n") if line]
    return {(line[0], line[1], line[2]): dict(zip(("none", *TABLE_1_ATTACKS), line[3:], strict=True)) for line in lines}


TABLE_2 = _read_table_2()
"""(ε, γ, δ) → attack → accuracy, on MNIST. The best row has the values of Table 3 (see there)."""

FIGURE_4B: dict[int, dict[str, float]] = {10: {"none": 95.20, "average": 87.32}, 100: {"none": 98.82, "average": 93.69}}
"""Per cent of the training images → clean and average robust accuracy, as the text of section 4.4 gives them."""

_NAMES = {"standard": "None"}
"""Model → its name in the paper, if that differs from our title."""


def published_rows(numbers: Iterable[Row], dataset: str) -> dict[str, dict[str, float]]:
    """The paper's rows of Table 3 for the models of `numbers`: name in the paper → attack → accuracy."""
    models = {row.model for row in numbers}
    published = {model: row for model, row in TABLE_3.get(dataset, {}).items() if model in models}
    return {_NAMES.get(model, model_titles()[model]): row for model, row in published.items()}
