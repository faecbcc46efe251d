"""One table or figure of the paper a file: its claim, its cost and its command in the docstring."""

from grfd.experiments import fig2, fig3, fig4a, fig4b, none_row, readings, robust, rsm, sources, table2, table3
from grfd.experiments.cells import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    "table2": table2,
    "table3": table3,
    "fig2": fig2,
    "fig3": fig3,
    "fig4a": fig4a,
    "fig4b": fig4b,
    "readings": readings,
    "rsm": rsm,
    "none-row": none_row,
    "sources": sources,
    "robust": robust,
}
