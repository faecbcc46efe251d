"""Use of a trained defense: load_defense, disentangle, predict."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from grfd.api.fitting import defense_named
from grfd.api.job import Own, OwnModel, Source, as_path, load_data, open_job, open_run, write_npz
from grfd.data.image_file import read_pixels
from grfd.data.preparing import Preparation, prepared_pixels
from grfd.data.record import Data, Split, as_images
from grfd.defenses import averages_probabilities, is_stochastic
from grfd.errors import UserError
from grfd.evaluation.attacker import answer, votes_of
from grfd.method.lvcvae import divided, reconstruction
from grfd.method.stages import load_generator
from grfd.seeds import left_as_found, seeded


def load_defense(
    source: Source,
    data: Data | None = None,
    model: OwnModel | None = None,
    defense: str = "grfd",
    *,
    trust: bool = False,
) -> nn.Module:
    """A fitted defense in eval mode: an `nn.Module`, images in [0, 1] → logits. GRFD's x ↦ F(x − G(x)) is the default.

    A run of your own model names code that must be imported. As a run folder may come from somebody else, this is done
    only with your consent: give `model` (the factory, or its name) or `trust=True`.
    Raises `UserError` if the run does not contain the defense.
    """
    module = defense_named(defense)
    with left_as_found():
        job = open_job(source, Own(data, model, trust))
        return module.load(job)


@left_as_found()
def disentangle(source: Source, split: str, out: Path | str, data: Data | None = None) -> Path:
    """Writes the images x of a split, their parts x_u and x_r (float32, with z = μ) and their labels to an .npz file.

    `split`: "train" or "test". Returns the path of the file. Its arrays are images, redundant, robust and labels.
    """
    if split not in ("train", "test"):
        raise UserError(f"unknown split {split!r}: expected train or test")
    path = as_path(out, "out")
    path = path if path.suffix == ".npz" else path.with_suffix(".npz")
    run = open_run(source)
    loaded = load_data(run, data)
    chosen: Split = getattr(loaded, split)
    network = load_generator(run, loaded)
    with torch.no_grad():
        parts = [reconstruction(network, as_images(part)) for part in chosen.images.split(1000)]
    images = as_images(chosen.images[:])
    redundant, robust = divided(images, torch.cat(parts), run.config.robust_part)
    arrays = {"images": images, "redundant": redundant, "robust": robust, "labels": chosen.labels}
    write_npz(path, {name: value.numpy() for name, value in arrays.items()})
    return path


@left_as_found()
def predict(
    source: Source,
    files: Sequence[Path | str] | Path | str,
    *,
    defense: str = "grfd",
    data: Data | None = None,
    model: OwnModel | None = None,
    trust: bool = False,
) -> list[tuple[Path, str, float]]:
    """For each image file: the file, the class that a fitted defense predicts, and its probability.

    A random defense answers several times: its class is the majority's (or that of the mean probabilities, if it
    `averages_probabilities`), and the probability is the mean. A detector may answer "rejected".

    `data`, `model` and `trust`: as in `load_defense`. Raises `UserError` for a file that is not an image of the run's
    size.
    """
    try:
        paths = [Path(file) for file in ([files] if isinstance(files, Path | str) else files)]
    except TypeError as error:
        raise UserError(f"expected paths of image files: {error}") from error
    if not paths:
        raise UserError("no image given: expected at least one PNG or JPEG file")
    module = defense_named(defense)
    job = open_job(source, Own(data, model, trust))
    deployed = module.load(job)
    shape = tuple(job.data.train.images.shape[1:])
    how = Preparation(job.run.config.resize, job.run.config.crop)
    images = torch.stack([read_image(file, shape, how) for file in paths])
    with seeded(job.run.config.seed, "predict"):
        chosen, probabilities = _answered(deployed, images)
    names = [*job.data.classes, "rejected"]
    return [
        (file, names[int(index)], float(row[index]))
        for file, index, row in zip(paths, chosen, probabilities, strict=True)
    ]


@torch.no_grad()
def _answered(deployed: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The predicted class of each image, and its probabilities, the mean over the answers of a random defense."""
    count = votes_of(deployed) if is_stochastic(deployed) else 1
    answers = torch.stack([answer(deployed, images) for _ in range(count)])
    mean = answers.softmax(2).mean(0)
    chosen = mean.argmax(1) if averages_probabilities(deployed) else answers.argmax(2).mode(0).values
    return chosen, mean


def read_image(file: Path, shape: tuple[int, ...], how: Preparation | None = None) -> torch.Tensor:
    """An image file as float32 [channel, height, width] in [0, 1], resized and cropped. `shape`: the expected shape."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise UserError(f"the run takes images with {channels} channels, but image files have 1 or 3")
    pixels = prepared_pixels(read_pixels(file, channels), how or Preparation(), str(file))
    if pixels.shape[1:] != (height, width):
        raise UserError(f"{file} is {pixels.shape[1]}×{pixels.shape[2]}: expected {height}×{width} (height × width)")
    return torch.from_numpy(pixels).float() / 255
