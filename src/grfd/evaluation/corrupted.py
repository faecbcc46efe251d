"""Accuracy under common corruptions. RUN/corruptions/MODEL.npz holds each model's predictions for the first images."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grfd.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from grfd.data.record import as_images
from grfd.errors import UserError
from grfd.evaluation import identity
from grfd.evaluation.attacker import predictions
from grfd.evaluation.case import CONTROL, Case, looked_at
from grfd.evaluation.results import CorruptionRow
from grfd.files import read_regular
from grfd.progress import progress
from grfd.runs import write_bytes
from grfd.seeds import seeded

CORRUPTIONS_FOLDER = "corruptions"
CORRUPTIONS_VERSION = 1
"""Raised when a corruption changes, so that older predictions are replaced."""


@torch.no_grad()
def judge_corruptions(case: Case, examples: int) -> None:
    """Writes the predictions of all models for the first images under each corruption and severity.

    What is stored for the same model and at least as many of the same images is kept.
    """
    case = case if case.identities else looked_at(case)
    count = min(examples, len(case.split))
    images = as_images(case.split.images[:count].to(case.device))
    about = {"version": CORRUPTIONS_VERSION, "seed": case.seed, "images": identity.marks_of(images).tolist()}
    wanted = [name for name in case.models if name != CONTROL and not _is_stored(case, name, about)]
    if not wanted:
        return
    shape = (len(CORRUPTIONS), len(SEVERITIES), count)
    predicted = {name: np.zeros(shape, dtype=np.int64) for name in wanted}
    with progress("corruptions", len(CORRUPTIONS) * len(SEVERITIES)) as advance:
        for place, corruption in enumerate(CORRUPTIONS):
            for severity in SEVERITIES:
                changed = corrupted(images, corruption, severity, case.seed)
                for name in wanted:
                    with seeded(case.seed, "corruption", name, corruption, severity):
                        answers = predictions(case.models[name], changed)
                    predicted[name][place, severity - 1] = answers.cpu().numpy()
                advance(1, f"{corruption}, severity {severity}")
    for name in wanted:
        _write(case, name, predicted[name], about)


def _file(folder: Path, model: str) -> Path:
    return folder / CORRUPTIONS_FOLDER / f"{model}.npz"


def _write(case: Case, name: str, predicted: np.ndarray, about: dict[str, Any]) -> None:
    labels = case.split.labels[: predicted.shape[2]].cpu().numpy()
    settings = json.dumps(about | {"model": case.identities[name]})
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, prediction=predicted, label=labels, corruption=np.array(list(CORRUPTIONS)), settings=np.array(settings)
    )
    write_bytes(_file(case.folder, name), buffer.getvalue())


def _is_stored(case: Case, name: str, about: dict[str, Any]) -> bool:
    file = _file(case.folder, name)
    if not file.exists():
        return False
    settings = json.loads(str(_read(file)["settings"]))
    asked = len(about["images"])
    same = all(settings[key] == about[key] for key in ("version", "seed"))
    model = {"models": {name: settings["model"]}}
    return (
        same
        and settings["images"][:asked] == about["images"]
        and identity.of_these_models(model, {name: case.identities[name]})
    )


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(read_regular(file, 2**30)), allow_pickle=False) as stored:
            content = {name: stored[name] for name in ("prediction", "label", "corruption", "settings")}
        shape = (len(content["corruption"]), len(SEVERITIES), len(content["label"]))
        if content["prediction"].shape != shape:
            raise ValueError(f"predictions have the shape {content['prediction'].shape}, expected {shape}")
        json.loads(str(content["settings"]))["images"]
    except UserError:
        raise
    except Exception as error:  # a damaged archive may raise anything
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is damaged ({reason}): delete it, and run the evaluation again") from error
    return content


def corruption_rows(folder: Path) -> list[CorruptionRow]:
    """The accuracy of each judged model under each corruption and severity."""
    rows = []
    for file in sorted((folder / CORRUPTIONS_FOLDER).glob("*.npz")):
        stored = _read(file)
        right = stored["prediction"] == stored["label"]
        for place, corruption in enumerate(stored["corruption"]):
            for severity in SEVERITIES:
                accuracy = float(right[place, severity - 1].mean())
                rows.append(CorruptionRow(file.stem, str(corruption), severity, len(stored["label"]), accuracy))
    return rows
