"""Every equation in float64: closed forms, gradcheck, and the one equality that keeps stage I from diverging."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from grfd.attacks.losses import log_odds
from grfd.method.losses import (
    classification_loss,
    gaussian_perturbation,
    gradient_difference_loss,
    gradient_similarity_loss,
    input_gradients,
    kl_divergence,
    reconstruction_loss,
    sign_gradient_perturbation,
)


@pytest.fixture
def network() -> nn.Module:
    """Smooth, so that finite differences hold."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4 * 4, 4)).double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(5, 1, 6, 6, dtype=torch.float64, generator=generator)
    noise = torch.randn(5, 1, 6, 6, dtype=torch.float64, generator=generator)
    return images, noise, torch.tensor([0, 1, 2, 3, 0])


def test_reconstruction_is_the_mean_or_the_sum_of_squares() -> None:
    images = torch.zeros(2, 1, 2, 2)
    redundant = torch.tensor([0.0, 0.5]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert reconstruction_loss(redundant, images).tolist() == [0, 0.25]
    assert reconstruction_loss(redundant, images, over="sum").tolist() == [0, 1.0]


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_kl_is_that_of_two_normals(mean: float, log_variance: float) -> None:
    posterior = torch.distributions.Normal(mean, math.exp(log_variance / 2))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    tensors = (torch.full((1, 7), value, dtype=torch.float64) for value in (mean, log_variance))
    assert kl_divergence(*tensors).item() == pytest.approx(7 * expected.item(), rel=1e-4, abs=1e-5)


def test_cross_entropy_is_softplus_of_the_log_odds(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    images, _, labels = batch
    logits = network(images)
    expected = nn.functional.softplus(log_odds(logits, labels))
    torch.testing.assert_close(classification_loss(logits, labels), expected)


def test_the_cosine_of_eq_5_is_the_same_over_margin_and_cross_entropy(
    network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    """∇CE = sigmoid(m)·∇m, so the value of L_rb and its gradient with respect to the weights are equal."""
    images, noise, labels = batch
    found = []
    for of in ("margin", "cross_entropy"):
        _, first, second = input_gradients(network, images, noise, labels, of=of)
        loss = gradient_similarity_loss(first, second)
        found.append([loss, *torch.autograd.grad(loss.sum(), list(network.parameters()), allow_unused=True)])
    for mine, literal in zip(*found, strict=True):
        if mine is not None:
            torch.testing.assert_close(mine, literal, rtol=1e-9, atol=1e-12)


def test_margin_gradient_survives_where_cross_entropy_underflows(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    images, noise, _ = (tensor.float() for tensor in batch)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    network[1].weight.data *= 1000
    labels = network(images).argmax(1)
    _, vanished, _ = input_gradients(network, images, 0 * noise, labels, of="cross_entropy")
    _, alive, _ = input_gradients(network, images, 0 * noise, labels, of="margin")
    assert (vanished.norm(dim=1) == 0).any()
    assert (alive.norm(dim=1) > 1).all()


def test_one_batched_pass_gives_the_two_gradients(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    images, noise, labels = batch
    logits, first, second = input_gradients(network, images, noise, labels)
    torch.testing.assert_close(logits, network(images))
    for point, gradient in ((images, first), (images + noise, second)):
        leaf = point.clone().requires_grad_()
        (expected,) = torch.autograd.grad(log_odds(network(leaf), labels).sum(), leaf)
        torch.testing.assert_close(gradient, expected.flatten(1))


@pytest.mark.parametrize("of", ["margin", "cross_entropy"])
@pytest.mark.parametrize("form", ["cosine", "l2"])
def test_double_backprop_with_respect_to_the_weights(
    network: nn.Module, batch: tuple[Tensor, Tensor, Tensor], of: str, form: str
) -> None:
    """Finite differences over the weights, through the gradient over the images."""
    images, noise, labels = batch

    def loss(*weights: Tensor) -> Tensor:
        parameters = dict(zip(dict(network.named_parameters()), weights, strict=True))
        _, first, second = input_gradients(
            lambda x: torch.func.functional_call(network, parameters, (x,)), images, noise, labels, of=of
        )
        if form == "cosine":
            return gradient_similarity_loss(first, second)
        return gradient_difference_loss(first, second, step=2.0)

    assert torch.autograd.gradcheck(loss, tuple(network.parameters()))


def test_cosine_form_of_parallel_and_opposite_gradients() -> None:
    gradients = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert gradient_similarity_loss(gradients, gradients * torch.tensor([[5.0], [-1.0]])).tolist() == pytest.approx(
        [-1, 1]
    )


def test_l2_form_is_eq_4() -> None:
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])
    assert gradient_difference_loss(first, second, step=0.5).tolist() == [25 / 0.25]


def test_a_linear_classifier_of_two_classes_is_perfectly_robust_by_eq_5() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()
    images, noise = torch.rand(2, 3, 1, 6, 6, dtype=torch.float64)
    _, first, second = input_gradients(network, images, noise, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(gradient_similarity_loss(first, second), torch.full((3,), -1.0, dtype=torch.float64))


def test_gaussian_perturbation_has_the_scale() -> None:
    torch.manual_seed(0)
    assert gaussian_perturbation(torch.zeros(100, 1, 28, 28), scale=0.3).std().item() == pytest.approx(0.3, rel=0.02)


def test_sign_gradient_perturbation_is_cure_s_direction(
    network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    images, _, labels = batch
    direction = sign_gradient_perturbation(network, images, labels, scale=1.5)
    _, gradient, _ = input_gradients(network, images, torch.zeros_like(images), labels)
    torch.testing.assert_close(direction.flatten(1).norm(dim=1), torch.full((5,), 1.5, dtype=torch.float64))
    assert torch.equal(direction.flatten(1).sign(), gradient.sign())
