"""GRFD (Li et al. 2025), a defense against adversarial examples, with attacks, other defenses and an evaluation."""

from grfd.api.evaluating import evaluate, evaluate_model, results
from grfd.api.fitting import fit, train
from grfd.api.job import open_run
from grfd.api.listing import FittedModel, fitted_models
from grfd.api.using import disentangle, load_defense, predict
from grfd.config import PRESETS, Config
from grfd.data import Data, from_tensors, load
from grfd.errors import UserError
from grfd.runs import Run

__all__ = [
    "PRESETS",
    "Config",
    "Data",
    "FittedModel",
    "Run",
    "UserError",
    "disentangle",
    "evaluate",
    "evaluate_model",
    "fit",
    "fitted_models",
    "from_tensors",
    "load",
    "load_defense",
    "open_run",
    "predict",
    "results",
    "train",
]
