"""What the commands do, for use from Python: train, evaluate, results, load_defense, disentangle, predict."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import nn

from grfd import data as datasets
from grfd import runs
from grfd.attacks import ATTACKS
from grfd.config import Config
from grfd.config import preset as preset_config
from grfd.data.record import Data, Split, as_images, checked
from grfd.defenses import DEFENSES, standard
from grfd.defenses import grfd as grfd_defense
from grfd.defenses.grfd import GRFD
from grfd.disentangle.lvcvae import redundant
from grfd.disentangle.stages import load_generator
from grfd.errors import UserError
from grfd.evaluate.attacker import attack, predictions
from grfd.evaluate.checks import as_rows, run_checks
from grfd.evaluate.judge import Case, budgets_for
from grfd.evaluate.judge import evaluate as run_attacks
from grfd.evaluate.protocols import PROTOCOLS
from grfd.models import Architecture, architecture
from grfd.report.figures import figure_3
from grfd.report.table import results as table_results
from grfd.runs import Run
from grfd.seeds import generator
from grfd.training.loop import accelerator_for

Source = Path | str | Run
FIGURE_EXAMPLES = 10


def open_run(source: Source) -> Run:
    return source if isinstance(source, Run) else runs.load(Path(source))


def load_data(run: Run, data: Data | None = None) -> Data:
    """The run's data set; `data` where it was trained on tensors. Raises `UserError` where it cannot be had."""
    if data is None and run.config.data not in datasets.DATASETS:
        raise UserError(f"{run.path} was trained on {run.config.data!r}, tensors of your own: give them as data=")
    return named_data(run.config, data)


def named_data(config: Config, data: Data | None = None) -> Data:
    """The data set that a configuration names, or `data` itself, checked."""
    return datasets.load(config.data, config.data_dir) if data is None else checked(data)


def build_architecture(config: Config, data: Data, model: Architecture | None = None) -> Architecture:
    """The target's constructor: the registered one, or the user's own."""
    if model is not None:
        return model
    channels, height, width = data.train.images.shape[1:]
    return architecture(config.model, channels=channels, classes=len(data.classes), height=height, width=width)


def train(
    out: Path | str, preset: str = "quick", data: Data | None = None, model: Architecture | None = None, **fields: Any
) -> Run:
    """Trains the standard model, GRFD's stages I–III and a second standard model; continues what an earlier call began.

    `out`: the run folder. `data`: from `grfd.from_tensors` or `grfd.load`; MNIST if None. `model`: makes your own
    `nn.Module`, called without arguments; LeNet5 if None. `fields`: any field of `Config`.
    Raises `UserError` for what cannot be trained, before training starts.
    """
    if data is not None:
        fields["data"] = data.name
    if model is not None:
        fields["model"] = f"{getattr(model, '__module__', '?')}:{getattr(model, '__qualname__', repr(model))}"
    return train_run(Path(out), preset_config(preset, **fields), data, model)


def train_run(out: Path, config: Config, data: Data | None = None, model: Architecture | None = None) -> Run:
    """`train` with a configuration."""
    with runs.locked(out):
        run, loaded, target = prepare(out, config, data, model)
        for defense in DEFENSES.values():
            defense.fit(run, loaded, target)
        standard.fit_second(run, loaded, target)
    return run


def prepare(
    out: Path, config: Config, data: Data | None = None, model: Architecture | None = None
) -> tuple[Run, Data, Architecture]:
    """What training needs. Everything is checked before the run folder is made, so a mistake leaves none behind."""
    loaded = named_data(config, data)
    target = build_architecture(config, loaded, model)
    check_fit(config, loaded, target)
    return runs.create(out, config), loaded, target


@torch.no_grad()
def check_fit(config: Config, data: Data, target: Architecture) -> None:
    """Raises `UserError` where the network does not take the images, or has another number of classes."""
    with torch.random.fork_rng():
        model = target().eval()
        images = as_images(data.train.images[:2])
        try:
            logits = model(images)
        except RuntimeError as error:
            shape = tuple(images.shape[1:])
            raise UserError(f"model {config.model!r} cannot take images of {shape}: {error}") from error
    if logits.shape != (len(images), len(data.classes)):
        raise UserError(
            f"model {config.model!r} answers with {tuple(logits.shape)} for {len(images)} images: "
            f"expected one logit for each of the {len(data.classes)} classes"
        )


def models_of(run: Run, data: Data, target: Architecture, device: torch.device) -> dict[str, nn.Module]:
    """The models that a run compares, in eval mode. The second standard model is there if `grfd train` was run."""
    models = {name: defense.load(run, data, target) for name, defense in DEFENSES.items()}
    if run.has("second-standard.safetensors"):
        models["second-standard"] = standard.load_second(run, data, target)
    return {name: model.to(device) for name, model in models.items()}


def evaluate(
    source: Source,
    protocols: Iterable[str] = tuple(PROTOCOLS),
    attacks: Iterable[str] = tuple(ATTACKS),
    examples: int = 1000,
    data: Data | None = None,
    model: Architecture | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Attacks the run's models on the first `examples` test images; writes records, results.json and figures.

    Returns {"rows": [...], "checks": [...]}, as `grfd show --json` prints. What is recorded already is kept; a killed
    evaluation continues. Raises `UserError` for unknown names and missing weights.
    """
    run = open_run(source)
    if examples < 1:
        raise UserError(f"examples must be at least 1, got {examples}")
    with runs.locked(run.path):
        loaded = load_data(run, data)
        device = accelerator_for(run).device
        models = models_of(run, loaded, build_architecture(run.config, loaded, model), device)
        budgets = budgets_for(loaded.test.images.shape[1])
        case = Case(run.path, models, loaded.test, budgets, run.config.seed, device)
        run_attacks(case, list(protocols), list(attacks), examples)
        found = table_results(run.path, as_rows(run_checks(case)))
        write_examples(case)
        figure_3(run.path)
        runs.write_json(run.file("results.json"), found)
    return found


def results(source: Source) -> dict[str, list[dict[str, Any]]]:
    """What `evaluate` returned. Raises `UserError` where the run is not evaluated yet."""
    run = open_run(source)
    if not run.has("results.json"):
        raise UserError(f"{run.path} holds no results yet: run grfd evaluate {run.path}")
    return json.loads(run.file("results.json").read_text())


def write_examples(case: Case) -> None:
    """examples.npz, which the figures are drawn from: the first test image of each class, and what became of it."""
    labels = case.split.labels
    first = [int((labels == label).nonzero()[0]) for label in labels.unique()[:FIGURE_EXAMPLES]]
    images, wanted = as_images(case.split.images[first].to(case.device)), labels[first].to(case.device)
    defense = case.models["grfd"]
    assert isinstance(defense, GRFD)
    made = {}
    for name, victim in (("transferred", case.models["standard"]), ("adversarial", defense.deterministic())):
        stream = generator(case.seed, "examples", name, device=case.device)
        made[name], _ = attack("pgd", victim, images, wanted, case.budgets["pgd"], stream)
    with torch.no_grad():
        arrays = {
            "images": images,
            "redundant": redundant(defense.generator, images),
            "robust": defense.deterministic().residual(images),
            **made,
            "adversarial_robust": defense.deterministic().residual(made["adversarial"]),
            "labels": wanted,
            "images_prediction": predictions(defense, images),
            "transferred_prediction": predictions(defense, made["transferred"]),
            "adversarial_prediction": predictions(defense.deterministic(), made["adversarial"]),
        }
    write_npz(case.folder / "examples.npz", {name: value.cpu().numpy() for name, value in arrays.items()})


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    runs.write_bytes(path, buffer.getvalue())


def load_defense(source: Source, data: Data | None = None, model: Architecture | None = None) -> GRFD:
    """The trained defense x ↦ F(x − G(x)): an `nn.Module`, images in [0, 1] → logits, in eval mode."""
    run = open_run(source)
    loaded = load_data(run, data)
    return grfd_defense.load(run, loaded, build_architecture(run.config, loaded, model))


def disentangle(source: Source, split: str, out: Path | str, data: Data | None = None) -> Path:
    """Writes images, redundant x_u and robust x_r (float32, z = μ) and labels of a split to a compressed .npz."""
    run = open_run(source)
    loaded = load_data(run, data)
    if split not in ("train", "test"):
        raise UserError(f"unknown split {split!r}: expected train or test")
    chosen: Split = getattr(loaded, split)
    network = load_generator(run, loaded)
    with torch.no_grad():
        parts = [redundant(network, as_images(part)) for part in chosen.images.split(1000)]
    images, unneeded = as_images(chosen.images), torch.cat(parts)
    arrays = {"images": images, "redundant": unneeded, "robust": images - unneeded, "labels": chosen.labels}
    path = Path(out).with_suffix(".npz") if Path(out).suffix != ".npz" else Path(out)
    write_npz(path, {name: value.numpy() for name, value in arrays.items()})
    return path


def predict(source: Source, files: list[Path]) -> list[tuple[Path, str, float]]:
    """File, predicted class and its probability, under the run's defense.

    Raises `UserError` for a file that it cannot take.
    """
    if not files:
        raise UserError("no image given: expected at least one PNG or JPEG file")
    run = open_run(source)
    loaded = load_data(run)
    defense = grfd_defense.load(run, loaded, build_architecture(run.config, loaded))
    shape = tuple(loaded.train.images.shape[1:])
    images = torch.stack([read_image(file, shape) for file in files])
    with torch.no_grad():
        probabilities = defense(images).softmax(1)
    best = probabilities.max(1)
    return [
        (file, loaded.classes[int(index)], float(value))
        for file, index, value in zip(files, best.indices, best.values, strict=True)
    ]


def read_image(file: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """A PNG or JPEG as float32 [channel, height, width] in [0, 1]."""
    channels, height, width = shape
    try:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{file} is not there") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{file} cannot be read as an image: {error}") from error
    if pixels.shape[:2] != (height, width):
        raise UserError(f"{file} is {pixels.shape[0]}×{pixels.shape[1]}: expected {height}×{width} (height × width)")
    return torch.from_numpy(pixels.copy()).reshape(height, width, channels).permute(2, 0, 1).float() / 255
