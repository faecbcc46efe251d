"""AdvGAN beside SE-AdvGAN: the success of both on the same victims, over the steps for which they are trained."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from grfd import runs
from grfd.api import using
from grfd.api.job import load_data
from grfd.attacks import ALL_ATTACKS
from grfd.attacks.registry import Keywords
from grfd.data.record import as_images
from grfd.evaluation.attacker import predictions
from grfd.evaluation.crafting import LabelledImages
from grfd.evaluation.numbers import column_titles, model_titles
from grfd.experiments.cells import Cell
from grfd.progress import progress
from grfd.report.sheets import Sheet, markdown
from grfd.seeds import generator
from grfd.types import Images, Labels

_FILE = "generators.json"
_ATTACKS = ("advgan", "se_advgan")
_STEPS = (5, 10, 25, 50, 100)
_EXAMPLES = 200


def success_over_steps(
    attack: Callable[[int], Images], model: nn.Module, labels: Labels, right: torch.Tensor, steps: Sequence[int]
) -> list[float]:
    """The share of the images in `right` that are misclassified after each number of steps.

    `attack`: number of steps → adversarial images. `right`: whether the model classifies each clean image correctly.
    """
    shares = []
    for count in steps:
        fooled = predictions(model, attack(count)) != labels
        shares.append(fooled[right].float().mean().item())
    return shares


def generators_cell(folder: Path, victims: Sequence[str]) -> Cell:
    """Both attacks on some of the models of a run."""
    return Cell("AdvGAN and SE-AdvGAN over steps", (folder / _FILE).exists, partial(_write, folder, victims))


def _write(folder: Path, victims: Sequence[str]) -> None:
    run = runs.load(folder)
    test = load_data(run).test.take(_EXAMPLES)
    images, labels = as_images(test.images), test.labels
    grey = images.shape[1] == 1
    rows = []
    with progress("generators", len(victims) * len(_ATTACKS)) as advance:
        for victim in victims:
            model = using.load_defense(run, defense=victim)
            right = predictions(model, images) == labels
            for name in _ATTACKS:
                budget = ALL_ATTACKS[name].grey if grey else ALL_ATTACKS[name].colour
                attack = partial(_attacked, name, LabelledImages(images, labels), model, budget)
                shares = success_over_steps(attack, model, labels, right, _STEPS)
                rows.append({"attack": name, "model": victim, "eps": budget["eps"], "success": shares})
                advance(1, f"{name} {victim}")
    runs.write_json(folder / _FILE, {"steps": list(_STEPS), "examples": len(labels), "rows": rows})


def _attacked(name: str, examples: LabelledImages, model: nn.Module, budget: Keywords, steps: int) -> Images:
    """The adversarial images after a number of steps, with the same random stream for each number."""
    stream = generator(0, "generators", name)
    return ALL_ATTACKS[name].function(
        model, examples.images, examples.labels, **budget | {"steps": steps}, generator=stream
    )


def generators_part(folder: Path) -> list[str]:
    """The table of both attacks, if it was measured."""
    file = folder / _FILE
    if not file.exists():
        return []
    stored = json.loads(file.read_text())
    lines = [
        [
            model_titles()[row["model"]],
            column_titles()[row["attack"]],
            *(f"{100 * each:.1f}" for each in row["success"]),
        ]
        for row in stored["rows"]
    ]
    header = ["victim", "attack", *(f"{steps} steps" for steps in stored["steps"])]
    eps = stored["rows"][0]["eps"] * 255
    text = (
        "SE-AdvGAN, the paper's reference [26], beside AdvGAN. The number is the attack's success, in per cent of the "
        f"images that the victim classifies correctly, over the steps of its training (ε = {eps:g}/255, first "
        f"{stored['examples']:,} test images, first seed). No code of SE-AdvGAN is published; ours is a reconstruction."
    )
    return [text, markdown(Sheet(header, lines, left=2))]
