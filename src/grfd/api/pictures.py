"""The arrays from which figures are drawn: a few test images, and how defenses and attacks change them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from grfd.api.job import write_npz
from grfd.data.record import as_images
from grfd.defenses.grfd import GRFD
from grfd.evaluation.attacker import Attempt, may_reject, predictions, seen_of, without_randomness
from grfd.evaluation.case import CONTROL, SOURCE, Case
from grfd.evaluation.crafting import LabelledImages, craft, for_transfer
from grfd.report.figures import figure_3, gallery
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

FIGURE_EXAMPLES = 10
GALLERY_EXAMPLES = 3
GALLERY_STEPS = 20
"""Steps of PGD in the gallery. More are not needed, and the gradient of a purifier is expensive."""


def write_figures(case: Case) -> None:
    """Draws figure 3 if GRFD is judged, and the gallery if any defense is."""
    if "grfd" in case.models:
        write_examples(case)
        figure_3(case.folder)
    if set(case.models) - {SOURCE, CONTROL}:
        write_gallery(case)
        gallery(case.folder)


def write_examples(case: Case) -> None:
    """Writes examples.npz for figure 3: the first test image of each class, its parts, and adversarial versions."""
    images, wanted = _first_of_each_class(case, FIGURE_EXAMPLES)
    defense = case.models["grfd"]
    assert isinstance(defense, GRFD)
    adversarial = {}
    for name, source in (("transferred", "standard"), ("adversarial", "grfd")):
        stream = generator(case.seed, "examples", name, device=case.device)
        attempt = Attempt("pgd", case.budgets["pgd"], stream, case.scales.get(source, 1.0))
        attempt = for_transfer(attempt) if name == "transferred" else attempt
        adversarial[name] = craft(
            without_randomness(case.models[source]), LabelledImages(images, wanted), attempt
        ).images
    with torch.no_grad():
        redundant, robust = defense.deterministic().parts(images)
        arrays = {
            "images": images,
            "redundant": redundant,
            "robust": robust,
            **adversarial,
            "adversarial_robust": defense.deterministic().residual(adversarial["adversarial"]),
            "labels": wanted,
            "images_prediction": predictions(defense, images),
            "transferred_prediction": predictions(defense, adversarial["transferred"]),
            "adversarial_prediction": predictions(defense.deterministic(), adversarial["adversarial"]),
        }
    write_npz(case.folder / "examples.npz", {name: value.cpu().numpy() for name, value in arrays.items()})


def write_gallery(case: Case) -> None:
    """Writes gallery.npz: test images x, and for each defense x′ (by PGD on it) and its classifier's inputs for both.

    Arrays are named DEFENSE.seen, .adversarial, .adversarial_seen, .prediction and .adversarial_prediction. Those of
    defenses that are not judged this time are kept.
    """
    images, labels = _first_of_each_class(case, GALLERY_EXAMPLES)
    arrays = _stored(case.folder / "gallery.npz")
    arrays |= {"images": images.cpu().numpy(), "labels": labels.cpu().numpy()}
    for name in case.models:
        if name != CONTROL:
            with seeded(case.seed, "gallery", name):
                row = _gallery_row(case, name, images, labels)
            arrays |= {f"{name}.{kind}": value.cpu().numpy() for kind, value in row.items()}
    write_npz(case.folder / "gallery.npz", arrays)


@torch.no_grad()
def _gallery_row(case: Case, name: str, images: Images, labels: Labels) -> dict[str, Tensor]:
    """A defense's arrays in the gallery."""
    defense = case.models[name]
    stream = generator(case.seed, "gallery", name, device=case.device)
    budget = case.budgets["pgd"] | {"steps": GALLERY_STEPS}
    attempt = Attempt("pgd", budget, stream, case.scales.get(name, 1.0))
    adversarial = craft(defense, LabelledImages(images, labels), attempt).images
    return {
        "seen": seen_of(defense, images),
        "adversarial": adversarial,
        "adversarial_seen": seen_of(defense, adversarial),
        "prediction": _class(defense, images),
        "adversarial_prediction": _class(defense, adversarial),
    }


def _class(defense: nn.Module, images: Images) -> Tensor:
    """The predicted classes; −1 for rejected images."""
    predicted = predictions(defense, images)
    if not may_reject(defense):
        return predicted
    return predicted.where(predicted != defense.rejection, -1)  # type: ignore[call-overload]


def _first_of_each_class(case: Case, count: int) -> tuple[Images, Labels]:
    labels = case.split.labels
    first = [int((labels == label).nonzero()[0]) for label in labels.unique()[:count]]
    return as_images(case.split.images[first].to(case.device)), labels[first].to(case.device)


def _stored(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
