"""The README's ten lines, with a user's own tensors and module."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import grfd


class MyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
        )
        self.net(torch.zeros(2, 3, 16, 12))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


def tensors(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    images = 0.5 * torch.rand(count, 3, 16, 12, generator=generator)
    images[torch.arange(count), labels] += 0.5
    return images, labels


@pytest.fixture
def data() -> grfd.Data:
    return grfd.from_tensors(*tensors(60), *tensors(30))


def test_own_tensors_and_module_from_training_to_results(data: grfd.Data, tmp_path: Path) -> None:
    run = grfd.train(
        tmp_path / "mine", data=data, model=MyNet, epochs=2, classifier_epochs=20, batch=16, latent=4, device="cpu",
        learning_rate=0.01, classifier_learning_rate=0.01,
    )  # fmt: skip
    found = grfd.evaluate(run, attacks=["fgsm", "pgd"], examples=30, data=data, model=MyNet)
    clean = {row.model: row.accuracy for row in found.rows if row.attack == "none"}
    assert clean["standard"] == 1.0
    assert {row.protocol for row in found.rows} == {"transfer", "whitebox", "adaptive", "residual"}
    defense = grfd.load_defense(run, data=data, model=MyNet)
    assert defense(data.test.images).shape == (30, 3)
    assert grfd.results(run) == found


def test_a_run_on_tensors_asks_for_them_again(data: grfd.Data, tmp_path: Path) -> None:
    run = grfd.train(tmp_path / "mine", data=data, epochs=1, classifier_epochs=1, latent=4, device="cpu")
    with pytest.raises(grfd.UserError, match="give them as data="):
        grfd.evaluate(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_at_inference": "sampled"},
        {"robust_dataset": "every_epoch"},
        {"target_start": "rsm"},
        {"game": "sign_flipped"},
        {"gamma": 0.0, "delta": 0.0},
    ],
    ids=str,
)
def test_alternatives_train_and_evaluate(
    data: grfd.Data, tmp_path: Path, changes: dict, request: pytest.FixtureRequest
) -> None:
    if "latent_at_inference" not in changes:  # whose random answers all masking checks see
        request.getfixturevalue("one_probe")
    run = grfd.train(tmp_path / "mine", data=data, epochs=1, classifier_epochs=1, latent=4, device="cpu", **changes)
    found = grfd.evaluate(run, attacks=["fgsm"], examples=10, data=data)
    assert {row.model for row in found.rows} == {"standard", "second-standard", "grfd"}


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(grfd.UserError, match="unknown field 'gama'"):
        grfd.train(tmp_path / "mine", gama=0.1)


def test_a_model_of_another_class_count_is_refused(tmp_path: Path, data: grfd.Data) -> None:
    with pytest.raises(grfd.UserError, match="expected one logit for each of the 3 classes"):
        grfd.train(tmp_path / "mine", data=data, model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(576, 5)))


def test_a_model_that_cannot_take_the_images_is_refused(tmp_path: Path, data: grfd.Data) -> None:
    with pytest.raises(grfd.UserError, match=r"cannot take images of \(3, 16, 12\)"):
        grfd.train(tmp_path / "mine", data=data, model=lambda: nn.Linear(7, 3))
