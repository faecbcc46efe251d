"""Experiments, one file or folder each: claim, cost and command in the docstring, cells, table, figure, section."""

from grfd.experiments import (
    exchanged,
    fig2,
    fig3,
    fig4a,
    fig4b,
    free,
    law,
    none_row,
    readings,
    robust,
    rsm,
    section22,
    sources,
    table2,
    table3,
    threat_models,
)
from grfd.experiments.cells import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    "table3": table3,
    "none-row": none_row,
    "sources": sources,
    "table2": table2,
    "fig2": fig2,
    "fig3": fig3,
    "fig4a": fig4a,
    "fig4b": fig4b,
    "readings": readings,
    "rsm": rsm,
    "law": law,
    "exchanged": exchanged,
    "robust": robust,
    "free": free,
    "section22": section22,
    "threat-models": threat_models,
}
"""Name → experiment, in the order of their sections on docs/reproduction.md."""
