"""What was judged: the model, by its weights and its answers, and each image. A record of anything else is stale."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grfd.data.record import as_images
from grfd.evaluation.attacker import answer, stand_ins_of, surrogate_of, without_randomness
from grfd.evaluation.records import Record
from grfd.models.state import identity_of
from grfd.types import Images

VERSION = 2
"""Of the judge: raised whenever a protocol or an attack changes what it finds, so that older records are made anew."""

ANSWERED = 8
"""Images by whose answers a model is known again."""

AGREE = 1e-4
"""Relative difference up to which two answers are the same: another processor rounds otherwise."""


def known_by(model: nn.Module, images: Images) -> dict[str, Any]:
    """The fingerprint of a model's weights, and what it answers to a few images.

    The answers tell when the code of a model has changed and its weights have not. `parts` are those of the networks
    that attacks see in its place. A random model has to be asked under a fixed seed (`seeds.seeded`).
    """
    images = images[:ANSWERED]
    parts = {"surrogate": surrogate_of(model), "deterministic": without_randomness(model), **stand_ins_of(model)}
    found = {"weights": identity_of(model), **_answers(model, images)}
    others = {name: _answers(part, images) for name, part in parts.items() if part is not model}
    return found | ({"parts": others} if others else {})


@torch.no_grad()
def _answers(model: nn.Module, images: Images) -> dict[str, Any]:
    """Lengths of the logits, which do not change with the order of the classes, and the predictions, which do."""
    logits = answer(model, images).double()
    lengths = logits.norm(dim=1).nan_to_num(nan=-1.0, posinf=-2.0)
    return {"answers": [float(f"{value:.6g}") for value in lengths.tolist()], "predicted": logits.argmax(1).tolist()}


def same_settings(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record was made under these settings, by these models."""
    before = stored.get("models")
    named = isinstance(before, dict) and before.keys() == now["models"].keys()
    return named and same_budget(stored, now) and of_these_models(stored, now["models"])


def same_budget(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record was made under these settings, whatever the models."""
    return {**stored, "models": None} == {**now, "models": None}


def of_these_models(stored: Mapping[str, Any], identities: Mapping[str, Any]) -> bool:
    """Whether each model that a record names, and that is known here, is the one that it was made with."""
    before = stored.get("models")
    shared = [name for name in before if name in identities] if isinstance(before, dict) else []
    return bool(shared) and all(_same_model(before[name], identities[name]) for name in shared)  # type: ignore[index]


def _same_model(before: Any, after: Mapping[str, Any]) -> bool:
    if not isinstance(before, dict) or before.get("weights", "") != after.get("weights", ""):
        return False
    if not _same_answers(before, after):
        return False
    stored, now = before.get("parts", {}), after.get("parts", {})  # the first records lack them
    shared = [name for name in stored if name in now] if isinstance(stored, dict) else []
    return all(_same_model(stored[name], now[name]) for name in shared)


def _same_answers(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """What the first records lack is not compared."""
    if before.get("predicted", after["predicted"]) != after["predicted"]:
        return False
    stored, now = before.get("answers", after["answers"]), after["answers"]
    numbers = isinstance(stored, list) and all(isinstance(each, float | int) for each in stored)
    if not numbers or len(stored) != len(now):
        return False
    return all(math.isclose(*pair, rel_tol=AGREE, abs_tol=1e-30) for pair in zip(stored, now, strict=True))


def marks_of(images: Tensor) -> np.ndarray:
    """64 bits of the content of each image, as it is shown to a model: int64 [n]."""
    shown = as_images(images).cpu().contiguous().numpy()
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in shown]
    return np.array([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=np.int64)


def of_these_images(record: Record, marks: np.ndarray, labels: Tensor) -> bool:
    """Whether a record is of the first images of a split, with their labels. `marks`: of these images (`marks_of`)."""
    count = len(record)
    if count > len(labels) or "image" not in record.columns:
        return False
    same_labels = np.array_equal(record.columns["label"], labels[:count].cpu().numpy())
    return same_labels and np.array_equal(record.columns["image"], marks[:count])
