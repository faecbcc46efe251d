"""What figures are drawn from: a few test images, and what defenses and attacks make of them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from grfd.api.job import write_npz
from grfd.data.record import as_images
from grfd.defenses.grfd import GRFD
from grfd.evaluation.attacker import Attempt, attack, may_reject, predictions, seen_of
from grfd.evaluation.case import CONTROL, SOURCE, Case
from grfd.evaluation.protocols import craft, for_transfer
from grfd.method.lvcvae import redundant_part
from grfd.report.figures import figure_3, gallery
from grfd.seeds import generator, seeded
from grfd.types import Images, Labels

FIGURE_EXAMPLES = 10
GALLERY_EXAMPLES = 3
GALLERY_STEPS = 20
"""PGD's steps in the gallery: enough to show, and a purifier's gradient is dear."""


def write_figures(case: Case) -> None:
    """Fig. 3 where GRFD is judged, and the gallery where any defense is."""
    if "grfd" in case.models:
        write_examples(case)
        figure_3(case.folder)
    if set(case.models) - {SOURCE, CONTROL}:
        write_gallery(case)
        gallery(case.folder)


def write_examples(case: Case) -> None:
    """examples.npz, which figure 3 is drawn from: the first test image of each class, and what became of it."""
    images, wanted = _first_of_each_class(case, FIGURE_EXAMPLES)
    defense = case.models["grfd"]
    assert isinstance(defense, GRFD)
    made = {}
    for name, victim in (("transferred", case.models["standard"]), ("adversarial", defense.deterministic())):
        stream = generator(case.seed, "examples", name, device=case.device)
        attempt = Attempt("pgd", case.budgets["pgd"], stream)
        made[name], _ = attack(victim, images, wanted, for_transfer(attempt) if name == "transferred" else attempt)
    with torch.no_grad():
        arrays = {
            "images": images,
            "redundant": redundant_part(defense.generator, images),
            "robust": defense.deterministic().residual(images),
            **made,
            "adversarial_robust": defense.deterministic().residual(made["adversarial"]),
            "labels": wanted,
            "images_prediction": predictions(defense, images),
            "transferred_prediction": predictions(defense, made["transferred"]),
            "adversarial_prediction": predictions(defense.deterministic(), made["adversarial"]),
        }
    write_npz(case.folder / "examples.npz", {name: value.cpu().numpy() for name, value in arrays.items()})


def write_gallery(case: Case) -> None:
    """gallery.npz: three test images, and for each defense what its classifier is shown of x and of x′, by PGD on it.

    Arrays are named DEFENSE.seen, .adversarial, .adversarial_seen, .prediction and .adversarial_prediction; those of
    defenses that are not judged this time stay.
    """
    images, labels = _first_of_each_class(case, GALLERY_EXAMPLES)
    arrays = _stored(case.folder / "gallery.npz")
    arrays |= {"images": images.cpu().numpy(), "labels": labels.cpu().numpy()}
    for name, defense in case.models.items():
        if name != CONTROL:
            with seeded(case.seed, "gallery", name):
                made = _shown(case, name, defense, images, labels)
            arrays |= {f"{name}.{kind}": value.cpu().numpy() for kind, value in made.items()}
    write_npz(case.folder / "gallery.npz", arrays)


@torch.no_grad()
def _shown(case: Case, name: str, defense: nn.Module, images: Images, labels: Labels) -> dict[str, Tensor]:
    stream = generator(case.seed, "gallery", name, device=case.device)
    budget = case.budgets["pgd"] | {"steps": GALLERY_STEPS}
    adversarial = craft(defense, images, labels, Attempt("pgd", budget, stream, case.scales.get(name, 1.0))).images
    return {
        "seen": seen_of(defense, images),
        "adversarial": adversarial,
        "adversarial_seen": seen_of(defense, adversarial),
        "prediction": _class(defense, images),
        "adversarial_prediction": _class(defense, adversarial),
    }


def _class(defense: nn.Module, images: Images) -> Tensor:
    """The predicted classes, −1 where the image is rejected."""
    found = predictions(defense, images)
    return found.where(found != defense.rejection, -1) if may_reject(defense) else found  # type: ignore[call-overload]


def _first_of_each_class(case: Case, count: int) -> tuple[Images, Labels]:
    labels = case.split.labels
    first = [int((labels == label).nonzero()[0]) for label in labels.unique()[:count]]
    return as_images(case.split.images[first].to(case.device)), labels[first].to(case.device)


def _stored(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
