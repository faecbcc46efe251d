"""GRFD free and N-FGSM: each term by hand, and what each setting changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import grfd
from grfd.defenses import cure, grfd_free, n_fgsm
from grfd.defenses.grfd import GRFD
from grfd.method.lvcvae import LVCVAE
from grfd.types import Labels

CLASSES, PIXELS = 4, 16


def whole(kind: str = "reconstruction") -> GRFD:
    torch.manual_seed(0)
    generator = LVCVAE(
        nn.Flatten(),
        nn.Linear(PIXELS, 3),
        nn.Linear(PIXELS, 3),
        nn.Linear(3, CLASSES),
        nn.Sequential(nn.Linear(3, PIXELS), nn.Unflatten(1, (1, 4, 4)), nn.Sigmoid()),
    )
    target = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 5), nn.Softplus(), nn.Linear(5, CLASSES))
    return GRFD(generator, target, kind=kind).double()  # type: ignore[arg-type]


def batch(count: int = 6) -> tuple[Tensor, Labels]:
    images = torch.rand(count, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(count) % CLASSES


def recipe(**changes: Any) -> grfd_free.Recipe:
    return grfd_free.Recipe(**({"epochs": 1, "penalty_weight": 0.3, "step": 0.7, "robustness": 0.0} | changes))


def gradient_of(defense: nn.Module, images: Tensor, labels: Labels) -> Tensor:
    points = images.clone().requires_grad_()
    loss = F.cross_entropy(defense(points), labels, reduction="sum")
    return torch.autograd.grad(loss, points)[0].flatten(1)


@pytest.mark.parametrize("penalty", ["gradient_norm", "curvature"])
@pytest.mark.parametrize("kind", ["reconstruction", "residual"])
def test_the_objective_is_the_weighted_sum_of_terms_by_hand(penalty: str, kind: str) -> None:
    (images, labels), defense, settings = batch(), whole(kind), recipe(penalty=penalty)
    terms = grfd_free.FreeTraining(defense, settings, sigma=0.5)(images, labels, 0.5)
    sign = gradient_of(defense, images, labels).sign()
    near = images + (0.7 * sign / sign.norm(dim=1, keepdim=True)).view_as(images)
    here, there = gradient_of(defense, images, labels), gradient_of(defense, near, labels)
    mean, log_variance = defense.generator.encode(images)
    reproduced = defense.generator.decode(mean)
    expected = {
        "classification": F.cross_entropy(
            defense.target(reproduced if kind == "reconstruction" else images - reproduced), labels, reduction="none"
        ),
        "penalty": there.abs().sum(1) if penalty == "gradient_norm" else (there - here).norm(dim=1),
        "reconstruction": (reproduced - images).square().flatten(1).mean(1),
        "divergence": 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1) / 3,
        "rectification": F.cross_entropy(defense.generator.rectify(mean), labels, reduction="none"),
    }
    assert terms.keys() == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-6, atol=1e-8)
    weights = {"classification": 1.0, "penalty": 0.3, "reconstruction": 1.0, "divergence": 0.2, "rectification": 0.6}
    torch.testing.assert_close(terms["loss"], sum(weights[name] * value for name, value in expected.items()))


def test_the_penalty_is_raised_from_0() -> None:
    (images, labels), defense = batch(), whole()
    objective = grfd_free.FreeTraining(defense, recipe(), sigma=0.5)
    losses = [objective(images, labels, progress)["loss"] for progress in (0.0, 1 / 6, 1 / 3, 0.9)]
    penalty = objective(images, labels, 0.0)["penalty"]
    for loss, share in zip(losses, (0.0, 0.5, 1.0, 1.0), strict=True):
        torch.testing.assert_close(loss, losses[0] + 0.3 * share * penalty)


def test_no_adversarial_image_is_classified_in_training() -> None:
    """The cross-entropy that is trained on is that of the images as they are."""
    (images, labels), defense = batch(), whole()
    terms = grfd_free.FreeTraining(defense, recipe(), sigma=0.5)(images, labels, 1.0)
    torch.testing.assert_close(terms["classification"], F.cross_entropy(defense(images), labels, reduction="none"))


@pytest.mark.parametrize("direction", ["none", "random"])
def test_other_directions(direction: str) -> None:
    (images, labels), defense = batch(), whole()
    torch.manual_seed(5)
    penalty = grfd_free.FreeTraining(defense, recipe(direction=direction), sigma=0.5)(images, labels, 1.0)["penalty"]
    torch.manual_seed(5)
    sign = torch.randn_like(images).sign() / PIXELS**0.5 if direction == "random" else torch.zeros_like(images)
    expected = gradient_of(defense, images + 0.7 * sign, labels).abs().sum(1)
    torch.testing.assert_close(penalty, expected)


@pytest.mark.parametrize("place", ["part", "image"])
def test_robustness_at_the_part_and_at_the_image(place: str) -> None:
    (images, labels), defense = batch(), whole()
    settings = recipe(penalty="none", robustness=0.4, robustness_of=place)
    torch.manual_seed(7)
    found = grfd_free.FreeTraining(defense, settings, sigma=0.5)(images, labels, 0.0)["robustness"]
    torch.manual_seed(7)
    model = defense.target if place == "part" else defense
    point = defense.residual(images).detach() if place == "part" else images
    noise = 0.5 * torch.randn_like(point)
    first, second = (_log_odds_gradient(model, each, labels) for each in (point, point + noise))
    torch.testing.assert_close(found, -F.cosine_similarity(first, second, dim=1))


def _log_odds_gradient(model: nn.Module, images: Tensor, labels: Labels) -> Tensor:
    points = images.detach().clone().requires_grad_()
    logits = model(points)
    true = F.one_hot(labels, CLASSES).bool()
    odds = logits.masked_fill(true, -torch.inf).logsumexp(1) - logits[true]
    return torch.autograd.grad(odds.sum(), points)[0].flatten(1)


def gated(sampled: bool = False) -> grfd_free.GatedGRFD:
    plain = whole()
    return grfd_free.GatedGRFD(plain.generator, plain.target, (1, 4, 4), sampled=sampled).double()


def test_the_gate_mixes_both_parts_pixel_by_pixel() -> None:
    (images, _), defense = batch(), gated()
    torch.testing.assert_close(defense.residual(images), images / 2)
    reproduced = defense.generator.decode(defense.generator.encode(images)[0])
    with torch.no_grad():
        defense.gate.copy_(torch.tensor([50.0, -50.0]).repeat(8).view(1, 4, 4))
    redundant, robust = defense.parts(images)
    torch.testing.assert_close(redundant + robust, images)
    torch.testing.assert_close(robust.flatten(1)[:, ::2], reproduced.flatten(1)[:, ::2])
    torch.testing.assert_close(robust.flatten(1)[:, 1::2], (images - reproduced).flatten(1)[:, 1::2])


def test_the_gate_is_learned_from_the_loss_of_both_parts() -> None:
    """Its gradient, by finite differences of the whole objective."""
    (images, labels), defense = batch(), gated()
    objective = grfd_free.FreeTraining(defense, recipe(), sigma=0.5)

    def loss() -> Tensor:
        return objective(images, labels, 0.5)["loss"].sum()

    (slope,) = torch.autograd.grad(loss(), defense.gate)
    for place in ((0, 0, 0), (0, 2, 3)):
        values = []
        for step in (1e-6, -2e-6):
            defense.gate.data[place] += step
            values.append(loss().item())
        defense.gate.data[place] += 1e-6
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope[place].item(), rel=1e-4, abs=1e-7)
    assert slope.abs().min() > 0


def test_without_randomness_the_gate_and_the_weights_are_the_same() -> None:
    (images, _), defense = batch(), gated(sampled=True)
    fixed = defense.deterministic()
    assert defense.stochastic and not torch.equal(defense(images), defense(images))
    assert not fixed.stochastic and fixed.gate is defense.gate
    torch.testing.assert_close(fixed(images), gated()(images))


def test_n_fgsm_trains_on_one_noisy_step() -> None:
    (images, labels), net = batch(), nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES)).double()
    settings = n_fgsm.Recipe(eps=0.1, epochs=1)
    torch.manual_seed(2)
    loss = n_fgsm.NoisyStep(net, settings)(images, labels, 0.0)["loss"]
    torch.manual_seed(2)
    start = images + 0.2 * (2 * torch.rand_like(images) - 1)
    stepped = (start + 0.1 * _log_odds_gradient(net, start, labels).view_as(images).sign()).clamp(0, 1)
    torch.testing.assert_close(loss, F.cross_entropy(net(stepped), labels, reduction="none"))
    assert (stepped - images).abs().max() > 0.1  # it is not projected onto the ball


def test_cure_may_penalise_the_norm_of_the_gradient_nearby() -> None:
    (images, labels), net = batch(), nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 5), nn.Softplus(),
                                                   nn.Linear(5, CLASSES)).double()  # fmt: skip
    settings = cure.Recipe(weight=0.4, penalty="gradient_norm", first_step=0.7, last_step=0.7)
    terms = cure.Curvature(net, settings)(images, labels, 0.0)
    sign = gradient_of(net, images, labels).sign()
    near = images + (0.7 * sign / sign.norm(dim=1, keepdim=True)).view_as(images)
    norm = gradient_of(net, near, labels).abs().sum(1)
    torch.testing.assert_close(terms["gradient_norm"], norm)
    torch.testing.assert_close(terms["loss"], F.cross_entropy(net(images), labels, reduction="none") + 0.4 * norm)


def test_a_gate_and_a_drawn_z_are_trained_and_loaded(digits: grfd.Data, tmp_path: Path) -> None:
    settings = {"epochs": 1, "robust_part": "gated", "latent": "sampled", "learning_rate": 0.01}
    grfd.fit("grfd-free", tmp_path / "run", data=digits, recipe=settings, latent=8, batch=200, device="cpu")
    defense = grfd.load_defense(tmp_path / "run", data=digits, defense="grfd-free")
    assert isinstance(defense, grfd_free.GatedGRFD) and defense.stochastic and defense.gate.abs().min() > 0
    images = grfd.data.as_images(digits.test.images[:4])
    assert not torch.equal(defense(images), defense(images))
    redundant, robust = defense.deterministic().parts(images)
    torch.testing.assert_close(redundant + robust, images)
