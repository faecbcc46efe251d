"""Matches class folders with the classes of a model by name or WordNet id, and gives the labels of the model."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch

from grfd.data.record import Data, Split
from grfd.errors import UserError

ClassNames = tuple[tuple[str, ...], ...]
"""All names of each class of a model, in the order of its logits."""

_SHOWN = 5


def names_in(description: str) -> tuple[str, ...]:
    """The names in a description such as "tabby, tabby cat": the whole text first, and then each of its parts."""
    parts = [part.strip() for part in description.split(",")]
    return tuple(dict.fromkeys([description.strip(), *parts]))


def matched_data(data: Data, model_classes: ClassNames | None, logits: int) -> tuple[Data, dict[str, int]]:
    """The dataset with the labels of a model that answers with `logits` logits, and class folder → logit.

    Where no name fits and the numbers of classes are equal, the order of the folders is that of the logits, and the
    dictionary is empty. Raises `UserError` where classes cannot be matched.
    """
    found = {name: _candidates(name, model_classes or ()) for name in data.classes}
    unique = {name: each[0] for name, each in found.items() if len(each) == 1}
    complete = len(unique) == len(found) and len(set(unique.values())) == len(unique)
    if complete:
        return _relabelled(data, unique, model_classes or (), logits), unique
    in_order = all(position in found[name] for position, name in enumerate(data.classes) if found[name])
    if len(data.classes) == logits and in_order:
        return data, {}
    raise UserError(_problem(data, found, model_classes, logits))


def _candidates(folder: str, model_classes: ClassNames) -> list[int]:
    """The logits whose class has this name. A whole description counts more than one of its parts."""
    name = _plain(folder)
    whole = [index for index, names in enumerate(model_classes) if names and name in map(_plain, names[:2])]
    if len(whole) == 1:
        return whole
    return [index for index, names in enumerate(model_classes) if name in map(_plain, names)]


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def _relabelled(data: Data, logit_of: dict[str, int], model_classes: ClassNames, logits: int) -> Data:
    if max(logit_of.values()) >= logits:
        raise UserError(f"the model has {len(model_classes)} class names but answers with {logits} logits")
    table = torch.tensor([logit_of[name] for name in data.classes])
    names = [(names or (str(index),))[0] for index, names in enumerate(model_classes)]
    for folder, logit in logit_of.items():
        names[logit] = folder
    splits = (Split(split.images, table[split.labels]) for split in (data.train, data.test))
    return replace(data, train=next(splits), test=next(splits), classes=tuple(_distinct(names)[:logits]))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with the number of the class behind those that occur twice, such as ImageNet's two cranes."""
    count: dict[str, int] = defaultdict(int)
    for name in names:
        count[name] += 1
    return [name if count[name] == 1 else f"{name} ({index})" for index, name in enumerate(names)]


def _problem(data: Data, found: dict[str, list[int]], model_classes: ClassNames | None, logits: int) -> str:
    where = f"the {len(data.classes)} classes of {data.source} cannot be matched to the model's {logits} logits"
    if not model_classes:
        return f"{where}: the model has no class names (class_names, or config.id2label), and the numbers differ"
    unknown = [name for name, each in found.items() if not each]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        return (
            f"{where}: it has no class {', '.join(map(repr, unknown[:_SHOWN]))}{more}; expected names or WordNet ids "
            f"such as {', '.join(map(repr, model_classes[0]))}"
        )
    several = next((name for name, each in found.items() if len(each) > 1), None)
    if several is not None:
        meant = " or ".join(f"{index} ({', '.join(model_classes[index])})" for index in found[several][:_SHOWN])
        return f"{where}: folder {several!r} may be class {meant}; expected one of their other names"
    return f"{where}: two folders have the same class; expected one folder for each class"
