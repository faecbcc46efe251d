"""All commands of grfd by name, and the ways in which some of them can be called."""

from collections.abc import Callable

from grfd.commands import bench, evaluate, reproduce, sweep
from grfd.commands.arguments import Mode
from grfd.commands.data import data
from grfd.commands.demo import demo
from grfd.commands.use import disentangle, predict

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "evaluate": evaluate.evaluate,
    "show": evaluate.show,
    "disentangle": disentangle,
    "predict": predict,
    "data": data,
    "bench": bench.bench,
    "bench train": bench.bench_train,
    "reproduce": reproduce.reproduce,
    "sweep": sweep.sweep,
    "page": reproduce.page,
}

MODES: dict[str, tuple[Mode, ...]] = {
    "evaluate": evaluate.MODES,
    "reproduce": reproduce.MODES,
    "bench": bench.MODES,
    "sweep": sweep.MODES,
}
"""Command → how it can be called, and which of its options do nothing then."""
