"""The defenses of section 2.2: their losses in closed form, and what tells them from the identity and a constant."""

import math
from itertools import permutations

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence

from grfd.attacks.losses import lead
from grfd.defenses.bayesian import Posterior
from grfd.defenses.crop_rescale import random_crops
from grfd.defenses.distillation import Distilled, soft_cross_entropy
from grfd.defenses.feature_scattering import scattered, smoothed, transport_distance, transport_plan
from grfd.defenses.guided_denoiser import DenoisingUNet, several_attacks
from grfd.defenses.jpeg import Compressed, compress_jpeg, differentiable_jpeg
from grfd.defenses.magnet import MagNet, fresh_autoencoders, jensen_shannon
from grfd.defenses.total_variation import differences, field_divergence, minimise_total_variation
from grfd.defenses.trs import Ensemble, alignment, gradient_norms, gradients_of_members, steepest_point
from grfd.models import MODELS
from grfd.models.robust_resnet import SqueezeExcitation
from grfd.seeds import BatchPart, sharing


def smooth(shape: tuple[int, ...]) -> torch.Tensor:
    rough = torch.rand((*shape[:2], 4, 4), generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(rough, size=shape[2:], mode="bilinear")


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 32, 32), (2, 3, 12, 20)])
def test_compression_is_near_the_image_and_loses_detail(shape: tuple[int, ...]) -> None:
    images = smooth(shape)
    noisy = (images + 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    small, large = compress_jpeg(noisy, 10), compress_jpeg(noisy, 95)
    assert small.shape == shape and 0 <= small.min() <= small.max() <= 1
    near, far = ((each - noisy).abs().mean() for each in (large, small))
    assert 0 < near < 0.8 * far < 0.2


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 32, 32), (2, 1, 12, 12)])
def test_the_differentiable_jpeg_is_near_pillow_s(shape: tuple[int, ...]) -> None:
    pytest.importorskip("kornia", reason="the differentiable JPEG is kornia's")
    images = smooth(shape)
    hard, soft = compress_jpeg(images, 75), differentiable_jpeg(images, 75)
    assert (hard - soft).abs().mean() < 0.01


def test_the_surrogate_has_the_same_answers_and_another_gradient() -> None:
    pytest.importorskip("kornia", reason="the differentiable JPEG is kornia's")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        defense = Compressed(nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), 75).eval()
    images = smooth((2, 1, 12, 12)).requires_grad_()
    gradients = []
    for attacked in (defense.surrogate(), defense.stand_ins()["bpda"]):
        logits = attacked(images)
        assert torch.equal(logits, defense(images))
        gradients.append(torch.autograd.grad(logits[:, 0].sum(), images)[0])
    assert all(each.abs().max() > 0 for each in gradients)
    assert not torch.allclose(*gradients, atol=1e-3)


def test_the_soft_cross_entropy_is_lowest_at_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (30 * torch.randn(5, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    loss = soft_cross_entropy(student.requires_grad_(), teacher, 10.0)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert torch.allclose(gradient, ((student / 10).softmax(1) - (teacher / 10).softmax(1)) / 10)
    assert (soft_cross_entropy(teacher, teacher, 10.0) < loss).all()


def test_the_student_is_deployed_without_the_division() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    images, model = torch.rand(2, 1, 4, 4), Distilled(net, 100.0)
    assert torch.equal(model(images), net(images)) and model.training_temperature == 100.0


def test_the_plan_of_optimal_transport_has_uniform_marginals_and_is_the_best_assignment() -> None:
    """With little regularisation, the plan of a square cost is the cheapest assignment (found by trying all)."""
    cost = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    plan = transport_plan(cost, 0.002, iterations=5_000)
    assert torch.allclose(plan.sum(0), torch.full((5,), 0.2).double())
    assert torch.allclose(plan.sum(1), torch.full((5,), 0.2).double(), atol=1e-4)
    best = min(sum(cost[row, column] for row, column in enumerate(order)) for order in permutations(range(5)))
    assert float((plan * cost).sum()) == pytest.approx(float(best) / 5, rel=0.01)


def test_the_transport_distance_is_differentiable_and_0_for_equal_batches() -> None:
    """For two points each, the regularised plan has a closed form."""
    cost = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    stay = 1 / (1 + torch.tensor(-1 / 0.5, dtype=torch.float64).exp())  # softmax of −cost / 0.5
    assert torch.allclose(transport_plan(cost, 0.5, 500).diagonal(), (stay / 2).expand(2))
    logits = torch.eye(3, dtype=torch.float64)
    assert float(transport_distance(logits, logits, 0.01)) == pytest.approx(0, abs=1e-6)
    moved = torch.rand(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(transport_distance(logits, moved, 0.5), moved)
    cost = 1 - nn.functional.normalize(logits, dim=1) @ nn.functional.normalize(moved, dim=1).T
    entropy_free = (transport_plan(cost.detach(), 0.5) * cost).sum()
    assert torch.allclose(gradient, torch.autograd.grad(entropy_free, moved)[0]) and gradient.abs().max() > 0


def test_smoothed_labels_sum_to_one() -> None:
    labels = smoothed(torch.tensor([1, 0]), 5, 0.5)
    assert torch.allclose(labels, torch.tensor([[0.125, 0.5, 0.125, 0.125, 0.125], [0.5, *[0.125] * 4]]))


def test_scattered_images_stay_in_the_ball_and_lie_apart() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, images = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), torch.rand(8, 1, 6, 6)
        moved = scattered(net, images, 0.1, 0.01)
        random = (images + 0.1 * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    assert (moved - images).abs().max() <= 0.1 + 1e-6 and moved.min() >= 0 and moved.max() <= 1
    near, far = (transport_distance(net(images), net(each), 0.01) for each in (random, moved))
    assert far > near


def test_aligned_gradients_are_those_of_equal_networks() -> None:
    """Linear networks have constant gradients up to the softmax: equal ones align fully, orthogonal ones not at all."""
    images, labels = torch.rand(3, 1, 1, 2), torch.zeros(3, dtype=torch.long)
    first, second = (nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)) for _ in range(2))
    with torch.no_grad():
        first[1].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        second[1].weight.copy_(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    for members, expected in (([first, first], 1.0), ([first, second], 0.0), ([first], 0.0)):
        gradients, _ = gradients_of_members(Ensemble(members), images, labels)
        assert torch.allclose(alignment(gradients), torch.full((3,), expected), atol=1e-5)
    ensemble = Ensemble([first, second])
    mean = (first(images).softmax(1) + second(images).softmax(1)) / 2
    assert torch.allclose(ensemble(images).exp(), mean, atol=1e-6)
    norms = gradient_norms(gradients_of_members(ensemble, images, labels)[0])
    wrong = torch.stack([each(images).softmax(1)[:, 1] for each in (first, second)])
    assert torch.allclose(norms, 2 * wrong.mean(0), atol=1e-5)  # the gradient is 2·p(wrong) along the weight


def test_the_steepest_point_has_longer_gradients() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        members = [nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 4)) for _ in range(2)]
        ensemble, images, labels = Ensemble(members), torch.rand(16, 1, 6, 6), torch.randint(0, 4, (16,))
        moved = steepest_point(ensemble, images, labels, 0.1, 6)
    before, after = (gradient_norms(gradients_of_members(ensemble, each, labels)[0]).mean() for each in (images, moved))
    assert (moved - images).abs().max() <= 0.1 + 1e-6 and after > 1.05 * before


def test_the_divergence_of_a_posterior_is_that_of_normal_distributions() -> None:
    posterior = Posterior(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.3, votes=5)
    weight = posterior.network[1].weight
    expected = kl_divergence(Normal(weight, 0.3), Normal(0.0, 1.0)).sum()
    assert torch.allclose(posterior.divergence(), expected, rtol=1e-5)


def test_weights_are_drawn_whole_where_a_batch_is_divided() -> None:
    """In the last part of a batch that several passes share, noise for weights is not cut like noise for images."""
    posterior = Posterior(nn.Sequential(nn.Flatten(), nn.Linear(4, 30)), 0.5, votes=5)
    with sharing(BatchPart(12, 16, torch.Generator())):
        assert posterior(torch.rand(4, 1, 2, 2)).shape == (4, 30)


def test_a_posterior_draws_anew_for_the_repetitions_of_an_attack() -> None:
    posterior = Posterior(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), 0.5, votes=5).eval()
    image = torch.rand(1, 1, 2, 2)
    answers = posterior(image.repeat(16, 1, 1, 1))
    assert len({tuple(row.tolist()) for row in answers}) == 16
    many = torch.cat([posterior(image.repeat(16, 1, 1, 1)) for _ in range(400)])
    assert torch.allclose(many.mean(0), posterior.deterministic()(image)[0], atol=0.05)  # linear: the mean answer


def test_the_denoiser_starts_as_the_identity_and_takes_any_sides() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        denoiser = DenoisingUNet(3, 4).eval()
    for sides in ((12, 12), (28, 20), (33, 17)):
        images = torch.rand(2, 3, *sides)
        assert torch.equal(denoiser(images), images)


def test_the_attacks_of_the_denoiser_s_training_lower_the_lead_within_their_balls() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, images, labels = (
            nn.Sequential(nn.Flatten(), nn.Linear(36, 4)),
            torch.rand(64, 1, 6, 6),
            torch.arange(64) % 4,
        )
        moved = several_attacks(net, images, labels, 0.1)
    change = (moved - images).abs().flatten(1).amax(1)
    assert change.max() <= 0.1 + 1e-6 and change.min() < 0.02 < change.max()  # each image has its own ε
    assert (lead(net(moved), labels) > lead(net(images), labels)).all()


def test_the_network_of_robust_components_is_about_as_large_as_a_plain_one() -> None:
    sizes = [
        sum(weight.numel() for weight in MODELS[name](channels=1).parameters()) for name in ("lenet5", "robust-resnet")
    ]
    assert 0.8 < sizes[1] / sizes[0] < 1.5
    network = MODELS["robust-resnet"](channels=3, classes=7, height=96, width=96).eval()
    assert network(torch.rand(2, 3, 96, 96)).shape == (2, 7)


def test_squeeze_and_excitation_scales_whole_maps() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer, features = SqueezeExcitation(8), torch.rand(2, 8, 3, 3) + 0.1
    scales = layer(features) / features
    assert torch.allclose(scales, scales[..., :1, :1].expand_as(scales)) and 0 < scales.min() < scales.max() < 1


def test_redrawing_minimises_the_total_variation() -> None:
    """Against a general-purpose optimiser on a smoothed objective; the border and dropped pixels are part of it."""
    images = smooth((2, 1, 6, 7)).double()
    kept = (torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(2)) > 0.5).double()

    def cost(candidate: torch.Tensor) -> torch.Tensor:
        down, right = differences(candidate)
        variation = (down.square() + right.square() + 1e-14).sqrt().sum()
        return (kept * (candidate - images)).square().sum() / 2 + 0.03 * variation

    found = minimise_total_variation(images, kept, 0.03, 5_000)
    best = images.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([best], max_iter=2_000, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = cost(best)
        value.backward()
        return value

    optimiser.step(closure)
    assert float(cost(found)) <= float(cost(best.detach())) * (1 + 1e-4) < float(cost(images))


def test_the_divergence_is_minus_the_adjoint_of_the_differences() -> None:
    draws = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image, field = draws[0], differences(draws[1])
    down, right = differences(image)
    inner = (down * field[0] + right * field[1]).sum()
    assert torch.allclose(inner, -(image * field_divergence(*field)).sum())


def test_the_gradient_through_the_solver_is_that_of_its_answer() -> None:
    images = smooth((1, 1, 4, 4)).double().requires_grad_()
    kept = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda pixels: minimise_total_variation(pixels, kept, 0.03, 7), images)


def test_a_crop_is_the_square_that_it_names() -> None:
    """A crop of the whole side is the image; smaller ones lie inside it, at every place, and keep a linear ramp."""
    images = smooth((3, 2, 8, 8))
    assert torch.allclose(random_crops(images, 8), images, atol=1e-6)
    ramp = torch.arange(8.0).expand(64, 1, 8, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        crops = random_crops(ramp, 5)
    inner = crops[..., 1:-1].diff(dim=-1)
    assert torch.allclose(inner, torch.full_like(inner, 5 / 8), atol=1e-5)
    starts = (crops[:, 0, 0, 3:5].mean(1) - 2).round().int()  # the middle of a crop lies 2 pixels after its first
    assert set(starts.tolist()) == {0, 1, 2, 3} and crops.min() >= 0 and crops.max() <= 7


def test_crops_of_a_divided_batch_are_those_of_the_whole() -> None:
    images = smooth((6, 1, 8, 8))

    def part(first: int, count: int) -> torch.Tensor:
        with sharing(BatchPart(first, 6, torch.Generator().manual_seed(5))):
            return random_crops(images[first : first + count], 5)

    assert torch.equal(torch.cat([part(0, 2), part(2, 4)]), part(0, 6))


def test_the_jensen_shannon_divergence_is_0_for_equal_and_log_2_for_disjoint_distributions() -> None:
    first, second = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    assert torch.allclose(jensen_shannon(first, second), torch.tensor([math.log(2), 0.0]), atol=1e-6)
    p, q = torch.tensor([0.2, 0.8]), torch.tensor([0.6, 0.4])
    middle = Categorical((p + q) / 2)
    expected = (kl_divergence(Categorical(p), middle) + kl_divergence(Categorical(q), middle)) / 2
    assert torch.allclose(jensen_shannon(p[None], q[None]), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_magnet_rejects_what_exceeds_one_threshold_and_reforms_the_rest(channels: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = nn.Sequential(nn.Flatten(), nn.Linear(36 * channels, 4))
        temperatures = () if channels == 1 else (10.0, 40.0)
        defense = MagNet(classifier, fresh_autoencoders(channels), temperatures, 4).eval()
    images = smooth((5, channels, 6, 6))
    scores = defense.scores(images)
    assert scores.shape == (5, 2 if channels == 1 else 3) and (scores > 0).all()
    assert torch.equal(defense(images)[:, :4], classifier(defense.seen(images)))
    for detector in range(scores.shape[1]):
        chosen = torch.full_like(scores[0], torch.inf)
        chosen[detector] = scores[:, detector].median()
        defense.thresholds.data = chosen
        rejected = defense(images).argmax(1) == defense.rejection
        assert torch.equal(rejected, scores[:, detector] > chosen[detector])
