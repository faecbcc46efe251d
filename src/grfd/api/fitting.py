"""Training: train, fit, and the checks before them."""

from pathlib import Path
from typing import Any

from torch import nn

from grfd import processes, runs, schema
from grfd.api.job import AS_NAMED, Own, OwnModel, as_path, build_architecture, named_data
from grfd.config import Config, changed, checked_config
from grfd.config import preset as preset_config
from grfd.data.reading import for_training
from grfd.data.record import Data, as_images
from grfd.defenses import DEFENSES, DefenseModule, recipes, standard
from grfd.defenses import grfd as grfd_defense
from grfd.errors import UserError
from grfd.method.stages import check_generator
from grfd.models import Architecture
from grfd.models.hugging_face import HUGGING_FACE
from grfd.models.own import importable_name
from grfd.models.timm_models import TIMM
from grfd.models.trial import Trial, check_answer, check_trainable, smallest_batch
from grfd.models.weights import load_given
from grfd.runs import Run
from grfd.seeds import left_as_found
from grfd.training.classification import images_for, split_for
from grfd.training.job import Job
from grfd.training.limits import check_passes


def train(
    out: Path | str, preset: str = "quick", data: Data | None = None, model: OwnModel | None = None, **fields: Any
) -> Run:
    """Trains the standard model, GRFD's stages I–III and a second standard model. An interrupted training continues.

    `out`: the run folder. `data`: from `grfd.from_tensors` or `grfd.load`; MNIST if None. `model`: a function or class
    that makes your own `nn.Module` without arguments, or a name as in `Config`; LeNet5 if None. `fields`: any fields of
    `Config`. Raises `UserError` before training starts if something does not fit.
    """
    config = preset_config(preset, **fields, **_named(data, model))
    return train_run(as_path(out, "out"), config, Own(data, model))


@left_as_found()
def train_run(out: Path, config: Config, own: Own = AS_NAMED) -> Run:
    """`train` with a configuration."""
    with runs.locked(out):
        job = prepare(out, config, own)
        standard.fit(job)
        grfd_defense.fit(job)
        standard.fit_second(job)
    return job.run


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
    """Fits a defense of the registry, and the standard models, in a run folder. An interrupted training continues.

    `recipe`: fields of the defense's `Recipe`; the literature's values are the defaults. `fields`: fields of `Config`;
    the defaults are those of an existing run. `trust`: as in `load_defense`. Other arguments: as in `train`. Raises
    `UserError` for unknown names, impossible settings, and if the folder contains the defense with another recipe.
    """
    module = defense_named(defense)
    chosen: schema.Settings = schema.built(module.Recipe, {} if recipe is None else recipe, f"recipe of {defense}")
    folder = as_path(out, "out")
    config = runs.load(folder).config if (folder / "config.json").exists() else Config()
    named = _named(data, model)
    return fit_run(defense, folder, changed(config, **named, **fields), chosen, Own(data, model, trust))


@left_as_found()
def fit_run(defense: str, out: Path, config: Config, recipe: Any, own: Own = AS_NAMED) -> Run:
    """`fit` with a configuration and a recipe. Everything is checked before anything is written."""
    module = defense_named(defense)
    with runs.locked(out):
        data, architecture = examined(config, own)
        complete = recipes.checked_recipe(module, recipe, data, config)
        job = Job(runs.create(out, config, images_for(config, data)), data, architecture)
        recipes.remember(job.run, defense, complete)
        standard.fit(job)
        module.fit(job, complete)
        standard.fit_second(job)
    return job.run


def defense_named(name: str) -> DefenseModule:
    if not isinstance(name, str) or name not in DEFENSES:
        raise UserError(f"unknown defense {schema.quoted(name)}: expected one of {', '.join(DEFENSES)}")
    return DEFENSES[name]


def _named(data: Data | None, model: OwnModel | None) -> dict[str, str]:
    """The names of a caller's own data and model in the configuration."""
    names = {"data": data.name} if isinstance(data, Data) else {}
    if model is not None:
        names["model"] = model if isinstance(model, str) else importable_name(model)
    return names


def prepare(out: Path, config: Config, own: Own = AS_NAMED) -> Job:
    """Opens a run for training. Everything is checked first, so that a mistake leaves no run folder behind."""
    data, architecture = examined(config, own)
    check_generator(config, data)
    return Job(runs.create(out, config, images_for(config, data)), data, architecture)


def examined(config: Config, own: Own = AS_NAMED) -> tuple[Data, Architecture]:
    """The data and the target model of a configuration, after all checks. Nothing is written."""
    data = named_data(checked_config(config), own.data, trust=own.data_is_trusted)
    if not len(data.train):
        raise UserError(f"{data.source} has no training images: expected train/ and test/, or class folders")
    architecture = build_architecture(config, data, own.model, trust=own.trust)
    if config.weights is not None:
        architecture = _started_from(config.weights, architecture)
    check_fit(config, data, architecture, own=_is_of_others(config.model) or own.model is not None)
    check_passes(config, split_for(config, data), architecture)
    return for_training(data, config.train_examples, skip_broken=config.skip_broken), architecture


def _is_of_others(model: str) -> bool:
    """Whether a network is not of this package, so that a training step is tried."""
    return ":" in model or model.startswith((TIMM, HUGGING_FACE))


def _started_from(weights: Path, architecture: Architecture) -> Architecture:
    """An architecture whose networks begin with the weights in a file."""

    def build() -> nn.Module:
        network = architecture()
        load_given(network, weights, fresh_head=True)
        return network

    return build


def check_fit(config: Config, data: Data, target: Architecture, *, own: bool = True) -> None:
    """Raises `UserError` if the network cannot take the images, or has another number of classes.

    `own`: whether the network is the user's own, so that a training step is tried as well.
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
