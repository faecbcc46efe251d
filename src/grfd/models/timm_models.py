"""Networks of timm, `timm/NAME`: trained ones with their preprocessing, or fresh ones for the data of a run."""

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from grfd.data.class_names import ClassNames, names_in
from grfd.errors import UserError
from grfd.models.opened import Normalised, OpenedModel
from grfd.models.own import described
from grfd.models.weights import fitting_names, given_weights, load_given
from grfd.progress import side

TIMM = "timm/"


def open_timm(name: str, weights: Path | None = None) -> OpenedModel:
    """A trained network with its pretrained weights, or with those in a file. Raises `UserError`.

    The number of classes is that of the weights.
    """
    timm = _timm(name)
    if weights is None:
        side.print(f"{name}: looking for its pretrained weights (--weights FILE gives your own)")
        network = _created(timm, name, pretrained=True)
    else:
        fresh = _created(timm, name)
        tensors = fitting_names(given_weights(weights), fresh.state_dict())
        network = _created(timm, name, _sizes(fresh, tensors))
    wrapped, settings = _normalised(timm, network)
    if weights is not None:
        load_given(wrapped, weights)
    channels, crop = settings["input_size"][0], settings["input_size"][-1]
    resize = int(crop / settings["crop_pct"])
    return OpenedModel(wrapped, resize, crop, channels, _imagenet_names(timm, network))


def fresh_timm(name: str, channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    """A network with fresh weights for the images and classes of a run. It can be differentiated twice."""
    timm = _timm(name)
    sizes: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    network = _created(timm, name, sizes)
    made_for = getattr(getattr(network, "patch_embed", None), "img_size", None)
    if made_for is not None and tuple(made_for) != size:  # a transformer has positions for one size
        network = _created(timm, name, sizes | {"img_size": size})
    for module in network.modules():
        if hasattr(module, "fused_attn"):  # PyTorch's fused attention has no second derivative
            module.fused_attn = False  # type: ignore[assignment]
    return _normalised(timm, network)[0]


def _timm(name: str) -> Any:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another build than PyTorch
        raise UserError(f'model {name!r} needs timm and torchvision ({error}): pip install "grfd[models]"') from error
    known = timm.list_models()
    asked = name.removeprefix(TIMM).split(".")[0]
    if asked not in known:
        close = difflib.get_close_matches(asked, known, 1)
        meant = f" (did you mean timm/{close[0]}?)" if close else ""
        raise UserError(f"model {name!r}: timm {timm.__version__} has no such model{meant}")
    return timm


def _created(timm: Any, name: str, sizes: Mapping[str, Any] | None = None, *, pretrained: bool = False) -> nn.Module:
    try:
        with _quiet():
            network: nn.Module = timm.create_model(name.removeprefix(TIMM), pretrained=pretrained, **(sizes or {}))
    except Exception as error:  # each constructor, and each way to download, fails in its own way
        hint = ": its pretrained weights are not available; give --weights FILE" if pretrained else ""
        raise UserError(f"model {name!r}{hint} ({described(error)})") from error
    return network


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines about each new attempt to download."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sizes(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The numbers of classes and channels that weights are for, as far as their layers can be recognised."""
    settings: Any = getattr(network, "pretrained_cfg", {})
    sizes = {}
    for option, layer, dimension in (("num_classes", "classifier", 0), ("in_chans", "first_conv", 1)):
        tensor = tensors.get(f"{settings.get(layer)}.weight")
        if tensor is not None and tensor.ndim > dimension:
            sizes[option] = tensor.shape[dimension]
    return sizes


def _normalised(timm: Any, network: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    """The network behind its normalisation, and timm's settings for its images."""
    settings: dict[str, Any] = timm.data.resolve_data_config(model=network)
    channels = getattr(network, "in_chans", None) or settings["input_size"][0]
    head = getattr(network, "pretrained_cfg", {}).get("classifier")
    mean, std = (list(settings[key]) for key in ("mean", "std"))
    if len(mean) != channels:  # of a network for colour that is made for other images
        mean, std = [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels
    return Normalised(network, mean, std, head if isinstance(head, str) else ""), settings


def _imagenet_names(timm: Any, network: nn.Module) -> ClassNames | None:
    subset = timm.data.infer_imagenet_subset(network)
    if subset is None:
        return None
    about = timm.data.ImageNetInfo(subset)
    texts = [
        (about.index_to_label_name(index), about.index_to_description(index)) for index in range(about.num_classes())
    ]
    return tuple((wordnet, *names_in(text)) for wordnet, text in texts)
