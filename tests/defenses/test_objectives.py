"""The rivals' losses beside closed forms and hand-written formulas, in float64."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grfd.attacks import pgd
from grfd.defenses import ape_gan, cd_vae, cure, gradient_regularisation, grfd_robust, pgd_at, trades
from grfd.defenses.grfd import GRFD
from grfd.method.lvcvae import LVCVAE

CLASSES, PIXELS = 4, 9


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES)).double()


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 3, 3, dtype=torch.float64, generator=generator)
    return images, torch.arange(count) % CLASSES


def test_the_projected_norm_is_the_jacobian_s_in_expectation() -> None:
    net, (images, _) = linear(), batch(1)
    points = images.requires_grad_()
    drawn = [gradient_regularisation.jacobian_norm(net(points), points) for _ in range(3_000)]
    expected = net[1].weight.square().sum()
    assert torch.allclose(torch.cat(drawn).mean(), expected, rtol=0.05)


def test_only_pixels_of_low_saliency_count() -> None:
    gradient = torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]])
    assert gradient_regularisation.unsalient(gradient, 0.5).item() == 1 + 4
    assert gradient_regularisation.unsalient(gradient, 1.0).item() == 1 + 4 + 9 + 16


def test_gradient_regularisation_adds_its_terms_up() -> None:
    recipe = gradient_regularisation.Recipe(jacobian=0.3, saliency=0.7)
    images, labels = batch()
    terms = gradient_regularisation.GradientRegularisation(linear(), recipe)(images, labels, 0.0)
    expected = terms["natural"] + 0.5 * 0.3 * terms["jacobian"] + 0.7 * terms["unsalient"]
    assert torch.allclose(terms["loss"], expected)
    assert terms["loss"].shape == labels.shape


def test_curvature_by_hand() -> None:
    net, (images, labels) = linear(), batch()
    recipe = cure.Recipe(weight=4.0, first_step=0.1, last_step=3.0)
    for progress, step in ((0.0, 0.1), (0.25, 1.55), (0.5, 3.0), (0.9, 3.0)):
        terms = cure.Curvature(net, recipe)(images, labels, progress)

        def gradient(x: Tensor) -> Tensor:
            """∇CE of a linear net: Wᵀ(p − y)."""
            return (net(x).softmax(1) - F.one_hot(labels, CLASSES)) @ net[1].weight

        sign = gradient(images).sign()
        moved = images + step * (sign / sign.norm(dim=1, keepdim=True)).view_as(images)
        expected = (gradient(moved) - gradient(images)).norm(dim=1)
        assert torch.allclose(terms["curvature"], expected, atol=1e-6)
        assert torch.allclose(terms["loss"], terms["natural"] + 4 * terms["curvature"])


def test_trades_climbs_the_divergence_inside_the_ball() -> None:
    net, (images, _) = linear(), batch()
    net[1].weight.data *= 5
    point = trades.furthest(net, images, eps=0.1, step_size=0.04, steps=5)
    assert (point - images).abs().max() <= 0.1 + 1e-12 and 0 <= point.min() <= point.max() <= 1
    random = (images + 0.1 * torch.randn_like(images).sign()).clamp(0, 1)
    clean = net(images)
    assert (trades.divergence(clean, net(point)) > trades.divergence(clean, net(random))).float().mean() > 0.8
    by_hand = (clean.softmax(1) * (clean.log_softmax(1) - net(point).log_softmax(1))).sum(1)
    assert torch.allclose(trades.divergence(clean, net(point)), by_hand)
    assert torch.allclose(trades.divergence(clean, clean), torch.zeros(len(images), dtype=torch.float64))


@pytest.mark.parametrize("gap", [1.0, 120.0, 1e4])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_divergence_is_right_and_its_gradient_finite_at_any_gap(gap: float, kind: torch.dtype) -> None:
    """Two classes: KL = Σ p·(log p − log q), of which each logarithm is a softplus."""
    logits = torch.tensor([[gap, 0.0], [-gap, 0.0], [0.0, 0.0]], dtype=kind, requires_grad=True)
    other = torch.tensor([[0.0, gap], [0.0, 0.0], [gap, 0.0]], dtype=kind, requires_grad=True)
    first, second = ((each[:, 1] - each[:, 0]).double() for each in (logits, other))
    expected = torch.sigmoid(-first) * (F.softplus(second) - F.softplus(first))
    expected = expected + torch.sigmoid(first) * (F.softplus(-second) - F.softplus(-first))
    found = trades.divergence(logits, other)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(found.sum(), (logits, other))
    assert all(each.isfinite().all() for each in gradients)
    assert torch.allclose(gradients[1].double(), (other.softmax(1) - logits.softmax(1)).double(), atol=1e-5)


def test_the_divergence_s_derivatives_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    ordinary = F.kl_div(second.log_softmax(1), first.softmax(1), reduction="none").sum(1)
    assert torch.allclose(trades.divergence(first, second), ordinary, rtol=1e-12, atol=1e-15)
    assert torch.autograd.gradcheck(trades.divergence, (first.requires_grad_(), second.requires_grad_()))
    assert torch.autograd.gradgradcheck(trades.divergence, (first, second))


@pytest.mark.parametrize("factor", [20.0, 1e4])
def test_no_objective_of_a_confident_network_has_undefined_gradients(factor: float) -> None:
    """Logits so far apart that softmax, cross-entropy and their gradients underflow to 0."""

    class Confident(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Softplus(), nn.Linear(5, CLASSES))

        def forward(self, images: Tensor) -> Tensor:
            return factor * 20 * self.net(images)

    def robust() -> nn.Module:
        defense = whole().float()
        defense.target = Confident()
        return grfd_robust.RobustTraining(defense, ALL, sigma=1.0)

    images, labels = digits()
    trained = (
        lambda: trades.Trades(Confident(), trades.Recipe(eps=0.1, step_size=0.05, steps=2, beta=3.0)),
        lambda: cure.Curvature(Confident(), cure.Recipe()),
        lambda: gradient_regularisation.GradientRegularisation(Confident(), gradient_regularisation.Recipe()),
        robust,
    )
    for make in trained:
        objective = make()
        terms = objective(images.float(), labels, 0.0)
        terms["loss"].mean().backward()
        assert all(value.isfinite().all() for value in terms.values()), type(objective)
        assert all(weight.grad.isfinite().all() for weight in objective.parameters() if weight.grad is not None)


def test_adversarial_training_sees_the_worst_of_the_ball() -> None:
    """For a linear net of two classes the worst point is x ± ε·sign(w), so the loss is known."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2)).double()
    images, labels = torch.full((4, 1, 3, 3), 0.5, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    recipe = pgd_at.Recipe(eps=0.1, step_size=0.05, steps=6)
    objective = pgd_at.AdversarialTraining(net, recipe).train()
    loss = objective(images, labels, 0.0)["loss"]
    towards = (net[1].weight[1] - net[1].weight[0]).sign() * (1 - 2 * labels[:, None])
    worst = images + 0.1 * towards.view_as(images)
    assert torch.allclose(loss, F.cross_entropy(net(worst), labels, reduction="none"))
    assert net.training and all(weight.requires_grad for weight in net.parameters())


def test_neither_side_of_the_game_moves_the_other() -> None:
    torch.manual_seed(0)
    generator, judge = ape_gan.Generator(1), ape_gan.discriminator(1, 12, 12)
    victim = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    images, labels = torch.rand(8, 1, 12, 12), torch.arange(8) % 3

    def gradients(recipe: ape_gan.Recipe) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        game = ape_gan.Game(generator, judge, victim, recipe)
        game.zero_grad()
        game(images, labels, 0.0)["loss"].mean().backward()
        return tuple(  # type: ignore[return-value]
            torch.cat([weight.grad.flatten() for weight in each.parameters()])  # type: ignore[union-attr]
            for each in (generator, judge)
        )

    alone = gradients(ape_gan.Recipe(eps=0.1, likeness=0.0, deceit=0.0))
    assert alone[0].abs().max() == 0 and alone[1].abs().max() > 0
    both = gradients(ape_gan.Recipe(eps=0.1))
    assert both[0].abs().max() > 0
    assert torch.allclose(both[1], alone[1], atol=1e-6)
    assert all(weight.grad is None for weight in victim.parameters())


def test_only_examples_within_the_margin_are_defended() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    assert cd_vae.within(logits, torch.zeros(3, dtype=torch.long), 8.0).tolist() == [0, 1, 1]


def test_the_two_vaes_take_their_images() -> None:
    for channels, height, width in ((3, 32, 32), (3, 8, 12)):
        vae = cd_vae.ConvVAE(channels, height, width, latent=7)
        images = torch.rand(4, channels, height, width)
        mean, log_variance = vae.encode(images)
        assert mean.shape == log_variance.shape == (4, 7)
        assert vae.decode(mean).shape == images.shape


def whole(sampled: bool = False) -> GRFD:
    torch.manual_seed(0)
    pixels = 16
    generator = LVCVAE(
        nn.Flatten(),
        nn.Linear(pixels, 3),
        nn.Linear(pixels, 3),
        nn.Linear(3, CLASSES),
        nn.Sequential(nn.Linear(3, pixels), nn.Unflatten(1, (1, 4, 4)), nn.Sigmoid()),
    )
    target = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 5), nn.Softplus(), nn.Linear(5, CLASSES))
    return GRFD(generator, target, sampled=sampled).double()


def digits(count: int = 6) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(count) % CLASSES


ALL = grfd_robust.Recipe(
    eps=0.1, step_size=0.05, steps=2, natural=0.3, consistency=2.0, invariance=0.7, robustness=0.4, adversarial=0.9
)


def terms_by_hand(defense: GRFD, images: Tensor, attacked: Tensor, labels: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """Each term as its formula, from x, x′ and the noise v of eq. 5."""
    plain, moved = defense(images), defense(attacked)
    redundant, redundant_of_x = (each - defense.residual(each) for each in (attacked, images))
    mean, log_variance = defense.generator.encode(attacked)
    points = [(attacked - redundant + shift).detach().requires_grad_() for shift in (0, noise)]
    true = F.one_hot(labels, CLASSES).bool()
    first, second = (
        torch.autograd.grad((logits.masked_fill(true, -torch.inf).logsumexp(1) - logits[true]).sum(), point)[0].flatten(
            1
        )
        for point, logits in ((point, defense.target(point)) for point in points)
    )
    return {
        "adversarial": F.cross_entropy(moved, labels, reduction="none"),
        "natural": F.cross_entropy(plain, labels, reduction="none"),
        "consistency": (plain.softmax(1) * (plain.log_softmax(1) - moved.log_softmax(1))).sum(1),
        "reconstruction": (redundant - attacked).square().flatten(1).mean(1),
        "divergence": 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1) / mean.shape[1],
        "rectification": F.cross_entropy(defense.generator.rectify(mean), labels, reduction="none"),
        "robustness": -(first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1)),
        "invariance": (redundant - redundant_of_x).square().flatten(1).mean(1),
    }


def test_robust_training_is_the_weighted_sum_of_terms_by_hand() -> None:
    """All weights differ, so that none can stand for another; x′ and the noise are drawn again from the same seed."""
    (images, labels), defense = digits(), whole()
    torch.manual_seed(3)
    terms = grfd_robust.RobustTraining(defense, ALL, sigma=0.5)(images, labels, 0.0)
    torch.manual_seed(3)
    inner = {"eps": ALL.eps, "step_size": ALL.step_size, "steps": ALL.steps}
    attacked = pgd(defense, images, labels, **inner, keep="last", active_set=False)
    expected = terms_by_hand(defense, images, attacked, labels, 0.5 * torch.randn_like(images))
    assert len({getattr(ALL, name) for name in expected}) == len(expected)
    assert terms.keys() == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(
            terms[name], value, rtol=1e-6, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    torch.testing.assert_close(terms["loss"], sum(getattr(ALL, name) * value for name, value in expected.items()))


def test_robust_training_attacks_the_whole_defense() -> None:
    images, labels = digits()
    moved = grfd_robust.RobustTraining(whole(), replace(ALL, eps=0.3, step_size=0.1, steps=5), sigma=1.0)
    terms = moved(images, labels, 0.0)
    assert (terms["adversarial"] > terms["natural"]).all()
    assert (terms["invariance"] > 0).all() and (terms["consistency"] > 0).all()


def test_terms_of_weight_zero_are_not_computed() -> None:
    images, labels = digits()
    terms = grfd_robust.RobustTraining(whole(), grfd_robust.Recipe(eps=0.1, step_size=0.05, steps=1), 1.0)(
        images, labels, 0.0
    )
    assert set(terms) == {"loss", "adversarial", "reconstruction", "divergence", "rectification"}


def test_the_latent_is_drawn_where_the_recipe_says_so() -> None:
    (images, _), still, drawn = digits(), whole(), whole(sampled=True)
    first, second = (grfd_robust.through(still, images).latents for _ in range(2))
    assert torch.equal(first, second)
    first, second = (grfd_robust.through(drawn, images).latents for _ in range(2))
    assert not torch.equal(first, second)
