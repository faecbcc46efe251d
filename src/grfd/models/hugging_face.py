"""Image classifiers of transformers: `hf/DIRECTORY`, as `save_pretrained` writes it, or `hf/ORG/NAME` of the Hub.

Code in a directory is never run. preprocessor_config.json is read here, because transformers would ask for torchvision.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from grfd.errors import UserError
from grfd.files import is_folder, is_there, read_regular
from grfd.models.opened import Normalised, OpenedModel, names_of
from grfd.models.own import described
from grfd.models.weights import load_given

HUGGING_FACE = "hf/"
_ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_HALF = 0.5
_LARGEST_CONFIG = 2**20
_SHOWN = 3


def open_hugging_face(name: str, weights: Path | None = None) -> OpenedModel:
    """A trained classifier with its preprocessing and class names. Raises `UserError`."""
    transformers, source = _transformers(name), _source(name)
    config = _config(transformers, name, source)
    auto = transformers.AutoModelForImageClassification
    with _explained(name), _quiet(transformers):
        if weights is not None:
            network = auto.from_config(config)
        else:
            network, about = auto.from_pretrained(source, config=config, output_loading_info=True)
            _refuse_missing(name, about)
    settings = _preprocessing(name, source)
    wrapped = _normalised(network, settings)
    if weights is not None:
        load_given(wrapped, weights)
    resize, crop = _sizes(settings, config)
    return OpenedModel(wrapped, resize, crop, _channels(config), names_of(network))


def fresh_hugging_face(name: str, channels: int, classes: int, side: int) -> nn.Module:
    """A classifier with fresh weights for the images and classes of a run. It can be differentiated twice."""
    transformers, source = _transformers(name), _source(name)
    config = _config(transformers, name, source)
    config.num_labels, config.num_channels = classes, channels
    if isinstance(getattr(config, "image_size", None), int):
        config.image_size = side
    with _explained(name), _quiet(transformers):
        # PyTorch's fused attention has no second derivative
        network = transformers.AutoModelForImageClassification.from_config(config, attn_implementation="eager")
    settings = _preprocessing(name, source)
    if channels != _channels(config, _number_of(settings.get("image_mean"))):
        settings = {}
    return _normalised(network, settings, channels)


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError(f'model {name!r} needs transformers ({error}): pip install "grfd[models]"') from error
    return transformers


def _source(name: str) -> str:
    """The directory, or ORG/NAME. Raises `UserError` if it is neither."""
    text = name.removeprefix(HUGGING_FACE)
    directory = Path(text)
    if text and is_folder(directory):
        if not is_there(directory / "config.json"):
            raise UserError(f"model {name!r}: {directory} has no config.json; expected what save_pretrained writes")
        return text
    if not _ON_THE_HUB.fullmatch(text):
        raise UserError(f"model {name!r}: {text or 'nothing'} is no directory; expected hf/DIRECTORY or hf/ORG/NAME")
    return text


def _config(transformers: Any, name: str, source: str) -> Any:
    with _explained(name), _quiet(transformers):
        return transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, UserError):
        raise
    except Exception as error:  # a damaged file, a network error, another kind of model, and much else
        raise UserError(f"model {name!r} cannot be opened: {described(error)}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars, and without reports of what is checked here."""
    logger = logging.getLogger("huggingface_hub")
    levels = logger.level, transformers.logging.get_verbosity()
    logger.setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(levels[0])
        transformers.logging.set_verbosity(levels[1])
        transformers.logging.enable_progress_bar()


def _refuse_missing(name: str, about: dict[str, Any]) -> None:
    """Raises `UserError` if layers would have stayed random."""
    keys = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in about.get(kind) or ())
    if keys:
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        raise UserError(f"model {name!r}: its weights do not fit: {', '.join(keys[:_SHOWN])}{more} are not in them")


def _preprocessing(name: str, source: str) -> dict[str, Any]:
    """The content of preprocessor_config.json; nothing if there is none."""
    file: Any = Path(source) / "preprocessor_config.json"
    if not is_folder(Path(source)):
        with _explained(name):
            from transformers.utils import cached_file

            file = cached_file(source, file.name, _raise_exceptions_for_missing_entries=False)
    if file is None or not is_there(Path(file)):
        return {}
    try:
        settings = json.loads(read_regular(Path(file), _LARGEST_CONFIG))
    except ValueError as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from error
    return settings if isinstance(settings, dict) else {}


def _normalised(network: nn.Module, settings: dict[str, Any], channels: int = 3) -> Normalised:
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if settings.get("do_normalize", bool(mean)) is False or not settings:
        mean, std = [0.0] * channels, [1.0] * channels
    mean, std = mean or [_HALF] * channels, std or [_HALF] * channels
    if _number_of(mean) is None or _number_of(mean) != _number_of(std) or 0 in std:
        raise UserError(f"preprocessor_config.json: image_mean {mean} and image_std {std}: expected numbers by channel")
    return Normalised(network, mean, std, "classifier")


def _number_of(values: object) -> int | None:
    numbers = isinstance(values, list) and all(isinstance(each, int | float) for each in values)
    return len(values) if numbers else None  # type: ignore[arg-type]


def _sizes(settings: dict[str, Any], config: Any) -> tuple[int | None, int | None]:
    """The shorter side that images are resized to, and the square that is cropped.

    A preprocessing that squeezes images into a square becomes one that crops the square, which keeps proportions.
    """
    size, crop = _side(settings.get("size")), _side(settings.get("crop_size"))
    if settings.get("do_resize", True) is False:
        size = None
    if settings.get("do_center_crop", crop is not None) is False:
        crop = None
    if size is not None and "crop_pct" in settings and crop is None:  # as ConvNeXt's: the size is that of the crop
        return (int(size / float(settings["crop_pct"])) if size < 384 else size), size
    if size is None and crop is None:
        size = _side(getattr(config, "image_size", None))
    return size, crop or size


def _side(size: object) -> int | None:
    if isinstance(size, dict):
        size = next((size[key] for key in ("shortest_edge", "height") if key in size), None)
    if isinstance(size, list | tuple) and size:
        size = size[0]
    return size if isinstance(size, int) and size > 0 else None


def _channels(config: Any, default: int | None = 3) -> int | None:
    channels = getattr(config, "num_channels", default)
    return channels if channels in (1, 3) else default
