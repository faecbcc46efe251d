"""What training commands do, and what a trained defense is for: train, load_defense, disentangle, predict."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import nn

from grfd import runs
from grfd.config import Config, changed
from grfd.config import preset as preset_config
from grfd.data.record import Data, Split, as_images
from grfd.defenses import DEFENSES, recipes, standard
from grfd.defenses import grfd as grfd_defense
from grfd.disentangle.lvcvae import redundant
from grfd.disentangle.stages import load_generator
from grfd.errors import UserError
from grfd.models import Architecture
from grfd.opening import Source, build_architecture, load_data, named_data, open_run, write_npz
from grfd.runs import Run


def train(
    out: Path | str, preset: str = "quick", data: Data | None = None, model: Architecture | None = None, **fields: Any
) -> Run:
    """Trains the standard model, GRFD's stages I–III and a second standard model; continues what an earlier call began.

    `out`: the run folder. `data`: from `grfd.from_tensors` or `grfd.load`; MNIST if None. `model`: makes your own
    `nn.Module`, called without arguments; LeNet5 if None. `fields`: any field of `Config`.
    Raises `UserError` for what cannot be trained, before training starts.
    """
    return train_run(Path(out), preset_config(preset, **fields, **_named(data, model)), data, model)


def train_run(out: Path, config: Config, data: Data | None = None, model: Architecture | None = None) -> Run:
    """`train` with a configuration."""
    with runs.locked(out):
        run, loaded, target = prepare(out, config, data, model)
        standard.fit(run, loaded, target)
        grfd_defense.fit(run, loaded, target)
        standard.fit_second(run, loaded, target)
    return run


def fit(
    defense: str,
    out: Path | str,
    data: Data | None = None,
    model: Architecture | None = None,
    recipe: dict[str, Any] | None = None,
    **fields: Any,
) -> Run:
    """Fits a defense of the registry, and the standard models beside it, in a run folder; continues what was begun.

    `recipe`: fields of the defense's `Recipe`; what is not given is the literature's. `fields`: of `Config`; those of
    the run where there is one already. Other arguments as in `train`. Raises `UserError` for unknown names, impossible
    settings, and a defense that the folder holds with another recipe.
    """
    if defense not in DEFENSES:
        raise UserError(f"unknown defense {defense!r}: expected one of {', '.join(DEFENSES)}")
    try:
        chosen = DEFENSES[defense].Recipe(**(recipe or {}))
    except TypeError as error:
        raise UserError(f"recipe of {defense}: {error}") from error
    there = (Path(out) / "config.json").exists()
    config = runs.load(Path(out)).config if there else Config()
    named = _named(data, model)
    return fit_run(defense, Path(out), changed(config, **named, **fields), chosen, data, model)


def fit_run(
    defense: str,
    out: Path,
    config: Config,
    recipe: Any,
    data: Data | None = None,
    model: Architecture | None = None,
) -> Run:
    """`fit` with a configuration and a recipe."""
    module = DEFENSES[defense]
    with runs.locked(out):
        run, loaded, target = prepare(out, config, data, model)
        settled = recipes.settled(recipe, loaded.train.images.shape[1], module.GREY, module.COLOUR)
        recipes.keep(run, defense, settled)
        standard.fit(run, loaded, target)
        module.fit(run, loaded, target, settled)
        standard.fit_second(run, loaded, target)
    return run


def _named(data: Data | None, model: Architecture | None) -> dict[str, str]:
    """How the configuration names a caller's own data and model."""
    names = {"data": data.name} if data is not None else {}
    if model is not None:
        names["model"] = f"{getattr(model, '__module__', '?')}:{getattr(model, '__qualname__', repr(model))}"
    return names


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


def load_defense(
    source: Source, data: Data | None = None, model: Architecture | None = None, defense: str = "grfd"
) -> nn.Module:
    """A fitted defense, GRFD's x ↦ F(x − G(x)) by default: an `nn.Module`, images in [0, 1] → logits, in eval mode.

    Raises `UserError` where the run does not hold it.
    """
    run = open_run(source)
    if defense not in DEFENSES:
        raise UserError(f"unknown defense {defense!r}: expected one of {', '.join(DEFENSES)}")
    loaded = load_data(run, data)
    return DEFENSES[defense].load(run, loaded, build_architecture(run.config, loaded, model))


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
