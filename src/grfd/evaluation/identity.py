"""How the judge recognises a model (by its weights and its answers) and an image. Other records are stale."""

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
"""Version of the judge. It is raised when results of a protocol or an attack change, so that old records are replaced.
"""

ANSWERED = 8
"""Number of images whose logits are stored, to recognise a model."""

AGREE = 1e-4
"""Relative difference up to which two answers count as the same, because processors round differently."""


def known_by(model: nn.Module, images: Images) -> dict[str, Any]:
    """The fingerprint of a model's weights, and its answers to a few images.

    The answers show when the code of a model has changed but its weights have not. `parts`: answers of the networks
    that are attacked in the model's place. The caller fixes the seed for a random model (`seeds.seeded`).
    """
    images = images[:ANSWERED]
    parts = {"surrogate": surrogate_of(model), "deterministic": without_randomness(model), **stand_ins_of(model)}
    identity = {"weights": identity_of(model), **_answers(model, images)}
    others = {name: _answers(part, images) for name, part in parts.items() if part is not model}
    return identity | ({"parts": others} if others else {})


@torch.no_grad()
def _answers(model: nn.Module, images: Images) -> dict[str, Any]:
    """The lengths of the logit vectors and the predictions. Only the predictions show the order of the classes."""
    logits = answer(model, images).double()
    lengths = logits.norm(dim=1).nan_to_num(nan=-1.0, posinf=-2.0)
    return {"answers": [float(f"{value:.6g}") for value in lengths.tolist()], "predicted": logits.argmax(1).tolist()}


def same_settings(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record was made with these settings and these models."""
    before = stored.get("models")
    named = isinstance(before, dict) and before.keys() == now["models"].keys()
    return named and same_budget(stored, now) and of_these_models(stored, now["models"])


def same_budget(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record was made with these settings, by any models."""
    return {**stored, "models": None} == {**now, "models": None}


def of_these_models(stored: Mapping[str, Any], identities: Mapping[str, Any]) -> bool:
    """Whether the models of a record are the present ones, among those that both know."""
    before = stored.get("models")
    shared = [name for name in before if name in identities] if isinstance(before, dict) else []
    return bool(shared) and all(_same_model(before[name], identities[name]) for name in shared)  # type: ignore[index]


def _same_model(before: Any, after: Mapping[str, Any]) -> bool:
    if not isinstance(before, dict) or before.get("weights", "") != after.get("weights", ""):
        return False
    if not _same_answers(before, after):
        return False
    stored, now = before.get("parts", {}), after.get("parts", {})  # the oldest records have none
    shared = [name for name in stored if name in now] if isinstance(stored, dict) else []
    return all(_same_model(stored[name], now[name]) for name in shared)


def _same_answers(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Facts that the oldest records do not have are not compared."""
    if before.get("predicted", after["predicted"]) != after["predicted"]:
        return False
    stored, now = before.get("answers", after["answers"]), after["answers"]
    numbers = isinstance(stored, list) and all(isinstance(each, float | int) for each in stored)
    if not numbers or len(stored) != len(now):
        return False
    return all(math.isclose(*pair, rel_tol=AGREE, abs_tol=1e-30) for pair in zip(stored, now, strict=True))


def marks_of(images: Tensor) -> np.ndarray:
    """A hash of 64 bits of each image, as a model receives it: int64 [n]."""
    pixels = as_images(images).cpu().contiguous().numpy()
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels]
    return np.array([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=np.int64)


def of_these_images(record: Record, marks: np.ndarray, labels: Tensor) -> bool:
    """Whether a record is of the first images of a split, with their labels. `marks`: the hashes of these images."""
    count = len(record)
    if count > len(labels) or "image" not in record.columns:
        return False
    same_labels = np.array_equal(record.columns["label"], labels[:count].cpu().numpy())
    return same_labels and np.array_equal(record.columns["image"], marks[:count])
