"""What training commands do, and what a trained defense is for: train, load_defense, disentangle, predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd import processes, runs, schema
from grfd.config import Config, changed, checked
from grfd.config import preset as preset_config
from grfd.data.image_file import read_pixels
from grfd.data.record import Data, Split, as_images
from grfd.defenses import DEFENSES, DefenseModule, recipes, standard
from grfd.defenses import grfd as grfd_defense
from grfd.disentangle.lvcvae import redundant
from grfd.disentangle.stages import check_generator, load_generator
from grfd.errors import UserError
from grfd.models import Architecture
from grfd.models.own import name_of
from grfd.models.trial import Trial, check_answer, check_trainable, smallest_batch
from grfd.opening import OwnModel, Source, as_path, build_architecture, load_data, named_data, open_run, write_npz
from grfd.runs import Run
from grfd.seeds import left_as_found
from grfd.training.classification import images_for, split_for
from grfd.training.limits import check_passes


def train(
    out: Path | str, preset: str = "quick", data: Data | None = None, model: OwnModel | None = None, **fields: Any
) -> Run:
    """Trains the standard model, GRFD's stages I–III and a second standard model; continues what an earlier call began.

    `out`: the run folder. `data`: from `grfd.from_tensors` or `grfd.load`; MNIST if None. `model`: makes your own
    `nn.Module`, called without arguments, or is a name as in `Config`; LeNet5 if None. `fields`: any field of `Config`.
    Raises `UserError` for what cannot be trained, before training starts.
    """
    config = preset_config(preset, **fields, **_named(data, model))
    return train_run(as_path(out, "out"), config, data, model)


@left_as_found()
def train_run(
    out: Path, config: Config, data: Data | None = None, model: OwnModel | None = None, *, trust: bool = False
) -> Run:
    """`train` with a configuration. `trust`: whether the user asked for the code that it names."""
    with runs.locked(out):
        run, loaded, target = prepare(out, config, data, model, trust=trust)
        standard.fit(run, loaded, target)
        grfd_defense.fit(run, loaded, target)
        standard.fit_second(run, loaded, target)
    return run


def fit(
    defense: str,
    out: Path | str,
    data: Data | None = None,
    model: OwnModel | None = None,
    recipe: dict[str, Any] | None = None,
    *,
    trust: bool = False,
    **fields: Any,
) -> Run:
    """Fits a defense of the registry, and the standard models beside it, in a run folder; continues what was begun.

    `recipe`: fields of the defense's `Recipe`; what is not given is the literature's. `fields`: of `Config`; those of
    the run where there is one already. `trust`: as in `load_defense`. Other arguments as in `train`. Raises `UserError`
    for unknown names, impossible settings, and a defense that the folder holds with another recipe.
    """
    module = _defense_named(defense)
    chosen: schema.Record = schema.built(module.Recipe, {} if recipe is None else recipe, f"recipe of {defense}")
    folder = as_path(out, "out")
    config = runs.load(folder).config if (folder / "config.json").exists() else Config()
    named = _named(data, model)
    return fit_run(defense, folder, changed(config, **named, **fields), chosen, data, model, trust=trust)


@left_as_found()
def fit_run(
    defense: str,
    out: Path,
    config: Config,
    recipe: Any,
    data: Data | None = None,
    model: OwnModel | None = None,
    *,
    trust: bool = False,
) -> Run:
    """`fit` with a configuration and a recipe. Nothing is written before everything is checked."""
    module = _defense_named(defense)
    with runs.locked(out):
        loaded, target = examined(config, data, model, trust=trust)
        settled = recipes.prepared(module, recipe, loaded, config)
        run = runs.create(out, config, images_for(config, loaded))
        recipes.keep(run, defense, settled)
        standard.fit(run, loaded, target)
        module.fit(run, loaded, target, settled)
        standard.fit_second(run, loaded, target)
    return run


def _defense_named(name: str) -> DefenseModule:
    if not isinstance(name, str) or name not in DEFENSES:
        raise UserError(f"unknown defense {schema.shown(name)}: expected one of {', '.join(DEFENSES)}")
    return DEFENSES[name]


def _named(data: Data | None, model: OwnModel | None) -> dict[str, str]:
    """How the configuration names a caller's own data and model."""
    names = {"data": data.name} if isinstance(data, Data) else {}
    if model is not None:
        names["model"] = model if isinstance(model, str) else name_of(model)
    return names


def prepare(
    out: Path, config: Config, data: Data | None = None, model: OwnModel | None = None, *, trust: bool = False
) -> tuple[Run, Data, Architecture]:
    """What training needs. Everything is checked before the run folder is made, so a mistake leaves none behind.

    `trust`: whether the user asked for the code that `config.model` names (`opening.build_architecture`).
    """
    loaded, target = examined(config, data, model, trust=trust)
    check_generator(config, loaded)
    return runs.create(out, config, images_for(config, loaded)), loaded, target


def examined(
    config: Config, data: Data | None = None, model: OwnModel | None = None, *, trust: bool = False
) -> tuple[Data, Architecture]:
    """The data and the target model of a configuration, checked with it. Nothing is written."""
    loaded = named_data(checked(config), data)
    target = build_architecture(config, loaded, model, trust=trust)
    check_fit(config, loaded, target, own=model is not None or ":" in config.model)
    check_passes(config, split_for(config, loaded), target)
    return loaded, target


def check_fit(config: Config, data: Data, target: Architecture, *, own: bool = True) -> None:
    """Raises `UserError` where the network does not take the images, or has another number of classes.

    `own`: the network is the user's, so a step of training is tried, too.
    """
    who, classes = f"model {config.model!r}", len(data.classes)
    split = data.train if config.train_examples is None else data.train.take(config.train_examples)
    with left_as_found():
        network = target()
        check_answer(network, as_images(split.images[:2]), who, classes)
        if own:
            size = smallest_batch(len(split), config.batch, config.passes * processes.count())
            images, labels = as_images(split.images[:size]), split.labels[:size]
            check_trainable(network, target(), Trial(images, labels, classes, who, config.channels_last))


def load_defense(
    source: Source,
    data: Data | None = None,
    model: OwnModel | None = None,
    defense: str = "grfd",
    *,
    trust: bool = False,
) -> nn.Module:
    """A fitted defense, GRFD's x ↦ F(x − G(x)) by default: an `nn.Module`, images in [0, 1] → logits, in eval mode.

    Where the run was trained on a model of your own, nothing is imported by the name in the run folder, which may come
    from somebody else, unless you give `model` (what makes it, or that name) or `trust=True`.
    Raises `UserError` where the run does not hold the defense.
    """
    module = _defense_named(defense)
    run = open_run(source)
    with left_as_found():
        loaded = load_data(run, data)
        return module.load(run, loaded, build_architecture(run.config, loaded, model, trust=trust))


@left_as_found()
def disentangle(source: Source, split: str, out: Path | str, data: Data | None = None) -> Path:
    """Writes images, redundant x_u and robust x_r (float32, z = μ) and labels of a split to a compressed .npz."""
    if split not in ("train", "test"):
        raise UserError(f"unknown split {split!r}: expected train or test")
    path = as_path(out, "out")
    path = path if path.suffix == ".npz" else path.with_suffix(".npz")
    run = open_run(source)
    loaded = load_data(run, data)
    chosen: Split = getattr(loaded, split)
    network = load_generator(run, loaded)
    with torch.no_grad():
        parts = [redundant(network, as_images(part)) for part in chosen.images.split(1000)]
    images, unneeded = as_images(chosen.images), torch.cat(parts)
    arrays = {"images": images, "redundant": unneeded, "robust": images - unneeded, "labels": chosen.labels}
    write_npz(path, {name: value.numpy() for name, value in arrays.items()})
    return path


@left_as_found()
def predict(
    source: Source,
    files: Sequence[Path | str] | Path | str,
    *,
    data: Data | None = None,
    model: OwnModel | None = None,
    trust: bool = False,
) -> list[tuple[Path, str, float]]:
    """File, predicted class and its probability, under the run's defense.

    `data`, `model` and `trust`: as in `load_defense`. Raises `UserError` for a file that it cannot take.
    """
    try:
        paths = [Path(file) for file in ([files] if isinstance(files, Path | str) else files)]
    except TypeError as error:
        raise UserError(f"images are to be given as paths of files: {error}") from error
    if not paths:
        raise UserError("no image given: expected at least one PNG or JPEG file")
    run = open_run(source)
    loaded = load_data(run, data)
    defense = grfd_defense.load(run, loaded, build_architecture(run.config, loaded, model, trust=trust))
    shape = tuple(loaded.train.images.shape[1:])
    images = torch.stack([read_image(file, shape) for file in paths])
    with torch.no_grad():
        probabilities = defense(images).softmax(1)
    best = probabilities.max(1)
    return [
        (file, loaded.classes[int(index)], float(value))
        for file, index, value in zip(paths, best.indices, best.values, strict=True)
    ]


def read_image(file: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """An image file (`grfd.data.image_file`) as float32 [channel, height, width] in [0, 1]."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise UserError(f"the run takes images of {channels} channels, which no image file has; expected 1 or 3")
    pixels = read_pixels(file, channels)
    if pixels.shape[1:] != (height, width):
        raise UserError(f"{file} is {pixels.shape[1]}×{pixels.shape[2]}: expected {height}×{width} (height × width)")
    return torch.from_numpy(pixels).float() / 255
