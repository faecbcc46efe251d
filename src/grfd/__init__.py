"""GRFD (Li et al. 2025): robust feature disentanglement against adversarial examples, and an evaluation that holds."""

from grfd.api import disentangle, fit, load_defense, predict, train
from grfd.config import PRESETS, Config
from grfd.data import Data, from_tensors, load
from grfd.errors import UserError
from grfd.judgement import evaluate, evaluate_model, results
from grfd.opening import open_run
from grfd.runs import Run

__all__ = [
    "PRESETS",
    "Config",
    "Data",
    "Run",
    "UserError",
    "disentangle",
    "evaluate",
    "evaluate_model",
    "fit",
    "from_tensors",
    "load",
    "load_defense",
    "open_run",
    "predict",
    "results",
    "train",
]
