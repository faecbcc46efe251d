"""`grfd export`: a fitted defense as a file that runs without grfd, with a model card of its verdict."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from grfd.api.fitting import defense_named
from grfd.api.job import AS_NAMED, Own, Source, as_path, open_job
from grfd.data.record import as_images
from grfd.defenses import is_stochastic
from grfd.errors import UserError
from grfd.files import is_there
from grfd.report.model_card import model_card
from grfd.runs import write_bytes
from grfd.seeds import left_as_found
from grfd.training.job import Job
from grfd.types import Images

_TOLERANCE = 1e-3
"""By how much the logits of the written file may differ from those of the defense, relative to the largest."""

_CHECKED_IMAGES = 8


@dataclass(frozen=True)
class Deployed:
    """A deployed model in memory: the defense in eval mode, and example images [batch, channel, height, width]."""

    model: nn.Module
    examples: Images


def _program(deployed: Deployed) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        return torch.export.export(deployed.model, (deployed.examples,), dynamic_shapes=({0: batch},))


def _write_pt2(deployed: Deployed, file: Path) -> None:
    torch.export.save(_program(deployed), file)


def _answers_of_pt2(file: Path, images: Images) -> Tensor:
    with torch.no_grad():
        return torch.export.load(file).module()(images)


def _write_onnx(deployed: Deployed, file: Path) -> None:
    try:
        import onnxruntime  # noqa: F401  an optional dependency, which checks the written file
        import onnxscript  # noqa: F401  an optional dependency, which PyTorch's exporter needs
    except ImportError as error:
        raise UserError(
            f"--format onnx needs onnxscript and onnxruntime: pip install 'grfd[onnx]' ({error})"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's exporter uses functions of PyTorch that are deprecated
        program = torch.onnx.export(
            deployed.model, (deployed.examples,), dynamo=True, verbose=False, input_names=["images"],
            output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None
    program.save(str(file))


def _answers_of_onnx(file: Path, images: Images) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return torch.from_numpy(np.asarray(answers))


def _write_safetensors(deployed: Deployed, file: Path) -> None:
    weights = {name: tensor.contiguous() for name, tensor in deployed.model.state_dict().items()}
    write_bytes(file, safetensors_bytes(weights))


_WRITERS: dict[str, Callable[[Deployed, Path], None]] = {
    "pt2": _write_pt2,
    "onnx": _write_onnx,
    "safetensors": _write_safetensors,
}
_READERS: dict[str, Callable[[Path, Images], Tensor]] = {"pt2": _answers_of_pt2, "onnx": _answers_of_onnx}
"""Formats that hold the network, and not only its weights, and how such a file answers."""

FORMATS = tuple(_WRITERS)


@left_as_found()
def export(source: Source, defense: str, out: Path | str, format: str = "pt2", own: Own = AS_NAMED) -> list[Path]:
    """Writes a fitted defense into the folder `out`: model.FORMAT, classes.json and README.md, its model card.

    The model takes float32 images [batch, channel, height, width] in [0, 1] and answers with logits. Its preprocessing
    is part of it. A .pt2 or .onnx file is read again and must answer as the defense does.
    Raises `UserError` for an unknown format or defense, for a defense with random answers in a format that holds the
    network, for a network that PyTorch cannot export, and if `out` is a file or has one of the three files.
    """
    folder = as_path(out, "out")
    if format not in FORMATS:
        raise UserError(f"unknown format {format!r}: expected one of {', '.join(FORMATS)}")
    module = defense_named(defense)
    if is_there(folder) and not folder.is_dir():
        raise UserError(f"--out {folder} is a file: expected a folder")
    file, classes, card = (folder / name for name in (f"model.{format}", "classes.json", "README.md"))
    for each in (file, classes, card):
        if is_there(each):
            raise UserError(f"{each} is already there: choose another folder")
    job = open_job(source, own)
    model = module.load(job).eval()
    if is_stochastic(model) and format in _READERS:
        raise UserError(f"{defense} has random answers, of which several make one prediction: export it as safetensors")
    deployed = Deployed(model, as_images(job.data.test.images[:_CHECKED_IMAGES]))
    folder.mkdir(parents=True, exist_ok=True)
    _written(deployed, file, format, defense)
    write_bytes(classes, (json.dumps(list(job.data.classes), indent=2, ensure_ascii=False) + "\n").encode())
    write_bytes(card, _card(job, defense, file).encode())
    return [file, classes, card]


def _written(deployed: Deployed, file: Path, format: str, defense: str) -> None:
    """Writes the file under another name first, so that it appears whole, checked, or not at all."""
    partial = file.with_name(f".{file.name}")
    partial = partial.with_suffix(file.suffix)
    try:
        _WRITERS[format](deployed, partial)
        if format in _READERS:
            _check_answers(deployed, _READERS[format](partial, deployed.examples), file)
        partial.replace(file)
    except UserError:
        raise
    except Exception as error:  # the exporters raise errors of many kinds for what they do not support
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"PyTorch cannot export {defense} as {format} ({type(error).__name__}: {reason})") from error
    finally:
        partial.unlink(missing_ok=True)


def _check_answers(deployed: Deployed, answers: Tensor, file: Path) -> None:
    with torch.no_grad():
        expected = deployed.model(deployed.examples)
    difference = (answers - expected).abs().max() / expected.abs().max().clamp_min(1e-12)
    if not difference <= _TOLERANCE:
        raise UserError(f"{file.name} answers differently from the defense (by {float(difference):.2g}): not written")


def _card(job: Job, defense: str, file: Path) -> str:
    shape = tuple(job.data.train.images.shape[1:])
    return model_card(job.run, defense, file.name, shape, list(job.data.classes))
