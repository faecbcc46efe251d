"""One table or figure of the paper a file: its claim, its cost and its command in the docstring."""

from grfd.experiments import none_row, table3
from grfd.experiments.cells import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    "table3": table3,
    "none-row": none_row,
}
