"""What was judged: the model, by its weights and its answers, and each image. A record of anything else is stale."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grfd.data.record import as_images
from grfd.defenses import is_stochastic
from grfd.evaluate.attacker import answer
from grfd.evaluate.records import Record
from grfd.models.state import identity_of
from grfd.types import Images

VERSION = 2
"""Of the judge: raised whenever a protocol or an attack changes what it finds, so that older records are made anew."""

SHOWN = 8
"""Images by whose answers a model is known again."""

AGREE = 1e-3
"""Relative difference up to which two answers are the same: another processor rounds otherwise."""


def known_by(model: nn.Module, images: Images) -> dict[str, Any]:
    """The fingerprint of a model's weights, and the Euclidean lengths of its answers to a few images.

    The answers tell when the code of a model has changed and its weights have not. A random model has none.
    """
    images = images[:SHOWN]
    found: dict[str, Any] = {"weights": identity_of(model, images)}
    if not is_stochastic(model):
        with torch.no_grad():
            logits = answer(model, images).double()
        # the length does not change with the order or the sign of the classes, the predicted class does
        lengths = logits.norm(dim=1).nan_to_num(nan=-1.0, posinf=-2.0)
        found["answers"] = [float(f"{value:.6g}") for value in lengths.tolist()]
        found["predicted"] = logits.argmax(1).tolist()
    return found


def same_settings(stored: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record was made under these settings, by these models."""
    if {**stored, "models": None} != {**now, "models": None}:
        return False
    before, after = stored.get("models", {}), now["models"]
    return (
        isinstance(before, dict)
        and before.keys() == after.keys()
        and all(_same_model(before[name], after[name]) for name in after)
    )


def of_known_models(stored: Mapping[str, Any], now: Mapping[str, Any], identities: Mapping[str, Any]) -> bool:
    """The same of a record that was not asked for: other sources of transferred examples may have been there then."""
    if {**stored, "models": None} != {**now, "models": None}:
        return False
    before = stored.get("models", {})
    shared = [name for name in before if name in identities] if isinstance(before, dict) else []
    return bool(shared) and all(_same_model(before[name], identities[name]) for name in shared)


def _same_model(before: Any, after: Mapping[str, Any]) -> bool:
    if not isinstance(before, dict) or before.get("weights") != after["weights"]:
        return False
    if before.get("predicted", after.get("predicted")) != after.get("predicted"):  # the first records lack it
        return False
    stored, now = before.get("answers", []), after.get("answers", [])
    numbers = isinstance(stored, list) and all(isinstance(each, float | int) for each in stored)
    if not numbers or len(stored) != len(now):
        return False
    pairs = zip(stored, now, strict=True)
    return all(math.isclose(first, second, rel_tol=AGREE, abs_tol=1e-30) for first, second in pairs)


def marks_of(images: Tensor) -> np.ndarray:
    """64 bits of the content of each image, as it is shown to a model: int64 [n]."""
    shown = as_images(images).cpu().contiguous().numpy()
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in shown]
    return np.array([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=np.int64)


def of_these_images(record: Record, images: Tensor, labels: Tensor) -> bool:
    """Whether a record is of the first images of a split, with their labels."""
    count = len(record)
    if count > len(labels) or "image" not in record.columns:
        return False
    same_labels = np.array_equal(record.columns["label"], labels[:count].cpu().numpy())
    return same_labels and np.array_equal(record.columns["image"], marks_of(images[:count]))
