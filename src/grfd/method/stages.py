"""Algorithm 1. Stage I trains LVCVAE and RSM, stage II writes R_D, and stage III trains the target model on R_D.

LVCVAE: Latent Variable Constrained Variational Auto-Encoder, the generator. RSM: Robust Supervisory Model. R_D: the
robust parts x_r of the training images, with their labels. As published, x_r is x − G(x) (`Config.robust_part`).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from grfd import processes
from grfd.config import Config
from grfd.data.record import Data, Split, as_images
from grfd.errors import UserError
from grfd.method.lvcvae import LVCVAE, lenet_lvcvae, residual_lvcvae, robust_part
from grfd.method.objective import StageOne
from grfd.runs import Run, load_weights, read_tensors, write_large, write_tensors
from grfd.seeds import seeded
from grfd.tensors import check_weights, refuse_misfit
from grfd.training.classification import Classification, classifier_optimisation, training_split
from grfd.training.job import Job
from grfd.training.limits import check_memory
from grfd.training.loop import Inputs, Optimisation, fit_objective

_IMAGES_AT_ONCE, _NUMBERS_AT_ONCE = 1000, 2**25
"""Number of images in one pass of stage II, and of their pixels times channels, at most."""

_AUTOENCODERS: dict[str, Callable[..., LVCVAE]] = {"lenet": lenet_lvcvae, "residual": residual_lvcvae}
"""Config.autoencoder → constructor."""


def build_generator(config: Config, data: Data) -> LVCVAE:
    """An LVCVAE for images of this size, with fresh weights. Raises `UserError` where there is none."""
    channels, height, width = data.train.images.shape[1:]
    family = config.autoencoder
    if family == "auto":
        family = "lenet" if channels == 1 else "residual"
    try:
        return _AUTOENCODERS[family](channels, len(data.classes), height, width, config.latent)
    except ValueError as error:
        raise UserError(f"LVCVAE: {error}") from error


def check_generator(config: Config, data: Data) -> None:
    """Raises `UserError` where no LVCVAE takes images of this size, or where its training needs too much memory."""
    check_memory(f"the LVCVAE with latent {config.latent}", lambda: build_generator(config, data), config)


def load_generator(run: Run, data: Data) -> LVCVAE:
    """The LVCVAE that stage I trained, in eval mode."""
    generator = build_generator(run.config, data)
    load_weights(generator, run.file("lvcvae.safetensors"))
    return generator.eval()


def stage_one(job: Job) -> None:
    """Lines 1–14: trains q_φ, p_θ, f_ψ and f_φ together, and writes lvcvae.safetensors and rsm.safetensors."""
    run, config = job.run, job.run.config
    with seeded(config.seed, "stage-one", "weights"):
        objective = StageOne(build_generator(config, job.data), job.architecture(), config)
    if run.has("lvcvae.safetensors") and run.has("rsm.safetensors"):
        check_weights(objective.generator, run.file("lvcvae.safetensors"))
        check_weights(objective.rsm, run.file("rsm.safetensors"))
        return
    split = training_split(job)
    optimisation = Optimisation(config.epochs, config.learning_rate)
    fit_objective(run, "stage-one", objective, lambda epoch: (split.images, split.labels), optimisation)
    write_tensors(run.file("lvcvae.safetensors"), objective.generator.state_dict())
    write_tensors(run.file("rsm.safetensors"), objective.rsm.state_dict())


def robust_dataset(run: Run, generator: LVCVAE, split: Split, draw: int = 0) -> Tensor:
    """Lines 15–19: x_r of every image, float32. z is drawn from N(μ, σ²); each `draw` has its own stream."""
    with seeded(run.config.seed, "stage-two", draw), torch.no_grad():
        return torch.cat(list(_robust_parts(run.config, generator, split)))


def _robust_parts(config: Config, generator: LVCVAE, split: Split) -> Iterator[Tensor]:
    device = next(generator.parameters()).device
    at_once = max(1, min(_IMAGES_AT_ONCE, _NUMBERS_AT_ONCE // split.images.shape[1:].numel()))
    for part in split.images.split(at_once):
        yield robust_part(generator, as_images(part.to(device)), sampled=True, kind=config.robust_part).cpu()


def stage_two(job: Job) -> None:
    """Lines 15–19: builds R_D from the training images, and writes it to robust.safetensors."""
    run = job.run
    if processes.of_main(lambda: run.has("robust.safetensors")):
        return
    split = training_split(job)
    parts = _robust_parts(run.config, load_generator(run, job.data), split)
    with seeded(run.config.seed, "stage-two", 0), torch.no_grad():
        write_large(run.file("robust.safetensors"), "images", parts, split.images.shape, {"labels": split.labels})


def stage_three(job: Job) -> None:
    """Lines 20–25: trains the target model F on R_D, and writes target.safetensors."""
    run = job.run
    with seeded(run.config.seed, "stage-three", "weights"):
        target = job.architecture()
    if run.has("target.safetensors"):
        check_weights(target, run.file("target.safetensors"))
        return
    if run.config.target_start == "rsm":
        load_weights(target, run.file("rsm.safetensors"))
    optimisation = classifier_optimisation(run.config)
    fit_objective(run, "stage-three", Classification(target), _stage_three_inputs(job), optimisation)
    write_tensors(run.file("target.safetensors"), target.state_dict())


def _stage_three_inputs(job: Job) -> Inputs:
    run = job.run
    if run.config.robust_dataset == "once":
        stored = _stored_robust_dataset(run, training_split(job))
        return lambda epoch: (stored["images"], stored["labels"])
    generator, split = load_generator(run, job.data), training_split(job)
    return lambda epoch: (robust_dataset(run, generator, split, draw=epoch), split.labels)


def _stored_robust_dataset(run: Run, split: Split) -> dict[str, Tensor]:
    """R_D as stage II wrote it. Raises `UserError` where it does not belong to the training images."""
    file = run.file("robust.safetensors")
    stored = read_tensors(file)
    expected = {"images": torch.empty(split.images.shape, device="meta"), "labels": split.labels}
    refuse_misfit(expected, stored, file)
    if not torch.equal(stored["labels"], split.labels):
        raise UserError(f"{file} has other labels than the training images: delete it, and stage II writes it again")
    return stored
