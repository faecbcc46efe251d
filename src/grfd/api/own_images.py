"""Brings a user's images and a trained classifier together: sizes, class names, and which images are read."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from grfd.config import Config
from grfd.data.class_names import matched_data
from grfd.data.on_demand import ImagesOnDemand
from grfd.data.reading import readable, with_left_out
from grfd.data.record import Data, as_images
from grfd.evaluation.stale import longest_record
from grfd.models.opened import OpenedModel, logits_in, with_plain_logits
from grfd.progress import side

_SHOWN = 10


def with_preprocessing(config: Config, opened: OpenedModel) -> Config:
    """The configuration with the sizes that the model asks for, unless the user gave others. A line says so."""
    resize = config.resize if config.resize is not None else opened.resize
    crop = config.crop if config.crop is not None else opened.crop
    if (resize, crop) == (config.resize, config.crop):
        return config
    if resize is not None and crop is not None and resize < crop:
        resize = crop  # of the two, the user chose one
    side.print(f"images as {config.model} asks for them: --resize {resize} --crop {crop}")
    return replace(config, resize=resize, crop=crop)


def matched(opened: OpenedModel, data: Data) -> tuple[OpenedModel, Data, dict[str, int]]:
    """The model with plain logits, the data with the model's labels, and class folder → logit if names were matched.

    Raises `UserError` where the classes cannot be matched.
    """
    images = as_images(data.test.images[:1])
    network = with_plain_logits(opened.network, images)
    opened = replace(opened, network=network)
    logits = _number_of_logits(opened, images)
    if logits is None:
        return opened, data, {}  # `check_own` says what is wrong
    data, found = matched_data(data, opened.classes, logits)
    if found:
        shown = [f"{folder} → {logit}" for folder, logit in list(found.items())[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        side.print(f"class folders matched to the model's {logits} classes: {', '.join(shown)}{more}")
    return opened, data, found


@torch.no_grad()
def _number_of_logits(opened: OpenedModel, images: torch.Tensor) -> int | None:
    network = opened.network
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        answer = logits_in(network(images.clone()))
    except Exception:  # `check_own` reports it
        return None
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(answer, torch.Tensor) or answer.ndim != 2:
        return None
    declared = getattr(network, "rejection", None)
    return answer.shape[1] - (declared is not None)


def images_to_judge(data: Data, folder: Path, models: Iterable[str], examples: int, *, skip_broken: bool) -> Data:
    """The dataset with only those test images that this evaluation reads. Images that are in memory stay all.

    They are the first `examples`, or more if the folder has records of more. Each is decoded here, so that a broken one
    is found before any work. Raises `BrokenImage`, unless `skip_broken`.
    """
    if not isinstance(data.test.images, ImagesOnDemand):
        return data
    needed = min(max(examples, longest_record(folder, models)), len(data.test))
    test, count = readable(data.test, needed, skip_broken=skip_broken)
    return with_left_out(replace(data, test=test), count)
