"""The detector: its score, its threshold, what counts as fooling it, and that the adaptive attack evades it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import grfd
from grfd.defenses.squeeze_detector import Detector
from grfd.evaluation.attacker import Attempt, Excused, attacked_model, predictions, predictions_under_attack
from grfd.evaluation.crafting import LabelledImages, craft

BUDGET = {"eps": 0.11, "step_size": 0.03, "steps": 20}


@pytest.fixture(scope="module")
def fitted(fit_some: Callable[[Iterable[str]], Path]) -> Path:
    """A run folder with the detector."""
    return fit_some(("standard", "squeeze-detector"))


class Linear(nn.Module):
    """Two classes: the mean pixel, and one less it."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([mean, 1 - mean], 1)


def test_the_score_is_the_largest_distance_of_the_softmaxes() -> None:
    detector = Detector(Linear(), [lambda x: x, lambda x: 1 - x, lambda x: 0.5 * x], threshold=0.3, classes=2)
    image = torch.full((1, 1, 2, 2), 0.8)
    distance = (Linear()(image).softmax(1) - Linear()(1 - image).softmax(1)).abs().sum()
    assert detector.score(image).item() == distance.item() > 0.3
    assert detector(image).argmax().item() == detector.rejection == 2
    calm = torch.full((1, 1, 2, 2), 0.5)
    assert detector(calm).argmax().item() != 2


def test_rejection_is_no_success_of_the_attacker() -> None:
    logits = torch.tensor([[3.0, 1.0, 5.0], [3.0, 1.0, 2.0]])
    wrong_but_rejected, wrong_and_accepted = Excused(lambda _: logits, 2, 1)(torch.zeros(2, 1, 2, 2))
    assert wrong_but_rejected.tolist() == [3.0, 5.0]
    assert wrong_and_accepted.tolist() == [3.0, 2.0]


def test_the_threshold_rejects_one_in_twenty(fitted: Path, digits: grfd.Data) -> None:
    detector = grfd.load_defense(fitted, data=digits, defense="squeeze-detector")
    chosen_on = json.loads((fitted / "squeeze-detector.json").read_text())["examples"]
    rejected = (predictions(detector, digits.train.images[:chosen_on]) == 10).float().mean().item()
    assert abs(rejected - 0.05) < 0.003


def test_an_attacker_who_knows_the_detector_evades_it(fitted: Path, digits: grfd.Data) -> None:
    detector = grfd.load_defense(fitted, data=digits, defense="squeeze-detector")
    standard = grfd.load_defense(fitted, data=digits, defense="standard")
    assert isinstance(detector, Detector)
    images, labels = digits.test.images[:100], digits.test.labels[:100]
    # strict, so that the detector matters: it rejects half of the clean images
    detector.threshold = detector.score(images).median().item()

    def kept(source: nn.Module) -> float:
        made = craft(source, LabelledImages(images, labels), Attempt("pgd", BUDGET, torch.Generator().manual_seed(0)))
        assert (made.images - images).abs().amax() <= BUDGET["eps"] + 1e-6
        return (predictions_under_attack(detector, made.images, labels) == labels).float().mean().item()

    assert kept(standard) > 0.9
    assert kept(detector) < kept(standard) - 0.05


def test_its_surrogate_answers_as_it_does(fitted: Path, digits: grfd.Data) -> None:
    detector = grfd.load_defense(fitted, data=digits, defense="squeeze-detector")
    with torch.no_grad():
        torch.testing.assert_close(
            attacked_model(detector)(digits.test.images[:50]), detector(digits.test.images[:50]), rtol=0, atol=0
        )
