"""All commands of grfd by name, except for the training commands."""

from collections.abc import Callable

from grfd.commands import bench, evaluate, reproduce, sweep
from grfd.commands.arguments import Mode
from grfd.commands.completion import completion_command
from grfd.commands.data import data_command
from grfd.commands.demo import demo_command
from grfd.commands.harden import harden_command
from grfd.commands.keep import keep_command
from grfd.commands.models import models_command
from grfd.commands.report import report_command
from grfd.commands.use import disentangle_command, export_command, predict_command

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo_command,
    "evaluate": evaluate.evaluate_command,
    "show": evaluate.show_command,
    "report": report_command,
    "disentangle": disentangle_command,
    "predict": predict_command,
    "export": export_command,
    "harden": harden_command,
    "models": models_command,
    "data": data_command,
    "bench": bench.bench_command,
    "bench train": bench.bench_train_command,
    "reproduce": reproduce.reproduce_command,
    "sweep": sweep.sweep_command,
    "page": reproduce.page_command,
    "keep": keep_command,
    "completion": completion_command,
}

MODES: dict[str, tuple[Mode, ...]] = {
    "evaluate": evaluate.MODES,
    "reproduce": reproduce.MODES,
    "bench": bench.MODES,
    "sweep": sweep.MODES,
}
"""Command → ways of calling it in which some of its options have no effect."""
