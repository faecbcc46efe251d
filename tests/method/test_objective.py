from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from grfd.config import Config
from grfd.data import from_tensors
from grfd.errors import UserError
from grfd.method.lvcvae import lenet_lvcvae, reconstruction, residual_lvcvae, robust_part
from grfd.method.objective import StageOne, alpha_at
from grfd.method.residual import Residual, feature_shape
from grfd.method.stages import build_generator
from grfd.models.lenet import LeNet5


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 1, 28, 28, generator=generator), torch.tensor([0, 1, 2, 3, 4, 5])


def stage_one(config: Config) -> StageOne:
    torch.manual_seed(0)
    return StageOne(lenet_lvcvae(1, 10, 28, 28, latent=8), LeNet5(), replace(config, latent=8))


def gradients(objective: StageOne, batch: tuple[Tensor, Tensor], term: str) -> dict[str, bool]:
    """Which of the parts a term's gradient reaches."""
    torch.manual_seed(1)
    objective.zero_grad()
    objective(*batch, 0.0)[term].sum().backward()
    return {
        part: any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
        for part, module in (("generator", objective.generator), ("rsm", objective.rsm))
    }


def test_alpha_follows_the_thirds() -> None:
    values = [alpha_at(epoch / 150, (10.0, 5.0, 1.0)) for epoch in range(150)]
    assert values == [10.0] * 50 + [5.0] * 50 + [1.0] * 50


def test_loss_is_eq_6(batch: tuple[Tensor, Tensor]) -> None:
    config = Config(alpha=(7.0, 5.0, 1.0), beta=0.3, epsilon=0.5, gamma=0.7, delta=0.9)
    terms = stage_one(config)(*batch, 0.0)
    expected = 7 * terms["rc"] + 0.3 * terms["kl"] + 0.5 * terms["rf"] + 0.7 * terms["cl"] + 0.9 * terms["rb"]
    torch.testing.assert_close(terms["loss"], expected)
    assert all(values.shape == (6,) for values in terms.values())


def test_kl_is_divided_by_channels_and_latent(batch: tuple[Tensor, Tensor]) -> None:
    found = []
    for kl in ("sum", "per_dimension"):
        torch.manual_seed(1)
        found.append(stage_one(Config(kl=kl))(*batch, 0.0)["kl"])
    torch.testing.assert_close(found[0], 8 * found[1])


@pytest.mark.parametrize("term", ["cl", "rb"])
def test_rsm_losses_train_the_generator_too(batch: tuple[Tensor, Tensor], term: str) -> None:
    assert gradients(stage_one(Config()), batch, term) == {"generator": True, "rsm": True}


@pytest.mark.parametrize("term", ["cl", "rb"])
def test_rsm_losses_detached(batch: tuple[Tensor, Tensor], term: str) -> None:
    assert gradients(stage_one(Config(rsm_gradient="detached")), batch, term) == {"generator": False, "rsm": True}


@pytest.mark.parametrize("term", ["cl", "rb"])
def test_sign_flipped_game_reverses_the_generator_alone(batch: tuple[Tensor, Tensor], term: str) -> None:
    found = []
    for game in ("cooperative", "sign_flipped"):
        objective = stage_one(Config(game=game))
        torch.manual_seed(1)
        objective(*batch, 0.0)[term].sum().backward()
        found.append((objective.generator.mean.weight.grad, objective.rsm.classifier[1].weight.grad))
    torch.testing.assert_close(found[0][0], -found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_terms_without_weight_cost_nothing(batch: tuple[Tensor, Tensor]) -> None:
    """Ablation case 2: no RSM at all."""
    objective = stage_one(Config(gamma=0.0, delta=0.0))
    calls = []
    objective.rsm.register_forward_hook(lambda *_: calls.append(1))
    assert set(objective(*batch, 0.0)) == {"loss", "rc", "kl", "rf"}
    assert not calls


class Normed(nn.Module):
    """A classifier with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(1352, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


@pytest.mark.parametrize(("batch_norm", "updates"), [("updated", 1), ("frozen", 0)])
def test_batch_norm_is_updated_once_a_step(batch: tuple[Tensor, Tensor], batch_norm: str, updates: int) -> None:
    config = Config(batch_norm=batch_norm, latent=8)
    objective = StageOne(lenet_lvcvae(1, 10, 28, 28, latent=8), Normed(), config).train()
    objective(*batch, 0.0)["loss"].mean().backward()
    assert objective.rsm.net[1].num_batches_tracked.item() == updates


@pytest.mark.parametrize(
    "changes",
    [
        {"reconstruction": "sum"},
        {"kl": "sum"},
        {"sigma": 0.1},
        {"perturbation": "sign_gradient"},
        {"similarity": "l2"},
        {"gradient_of": "cross_entropy"},
    ],
    ids=str,
)
def test_every_alternative_changes_the_loss_and_trains(batch: tuple[Tensor, Tensor], changes: dict) -> None:
    found = []
    for config in (Config(), replace(Config(), **changes)):
        objective = stage_one(config)
        torch.manual_seed(1)
        loss = objective(*batch, 0.0)["loss"].mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
        found.append((loss.item(), objective.rsm.features[0].weight.grad.norm().item()))
    assert found[0] != found[1]


def test_parts_add_up_to_the_image(batch: tuple[Tensor, Tensor]) -> None:
    generator = lenet_lvcvae(1, 10, 28, 28, latent=8).eval()
    unneeded, rest = reconstruction(generator, batch[0]), robust_part(generator, batch[0])
    torch.testing.assert_close(unneeded + rest, batch[0])
    assert unneeded.min() >= 0 and unneeded.max() <= 1 and rest.min() >= -1 and rest.max() <= 1


def test_sampled_latents_differ_and_the_mean_does_not(batch: tuple[Tensor, Tensor]) -> None:
    generator = lenet_lvcvae(1, 10, 28, 28, latent=8).eval()
    assert torch.equal(reconstruction(generator, batch[0]), reconstruction(generator, batch[0]))
    assert not torch.equal(
        reconstruction(generator, batch[0], sampled=True), reconstruction(generator, batch[0], sampled=True)
    )


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 32, 32), (1, 12, 16)])
def test_lvcvae_gives_back_the_image_s_shape(channels: int, height: int, width: int) -> None:
    images = torch.rand(2, channels, height, width)
    assert reconstruction(lenet_lvcvae(channels, 5, height, width), images).shape == images.shape


@pytest.mark.parametrize(("channels", "family"), [(1, "LeNet"), (3, "residual")])
def test_grey_and_colour_images_have_networks_of_their_own(channels: int, family: str) -> None:
    images = torch.rand(4, channels, 16, 16)
    data = from_tensors(images, torch.arange(4) % 2, images, torch.arange(4) % 2)
    generator = build_generator(Config(latent=8), data).eval()
    unneeded = reconstruction(generator, images)
    assert unneeded.shape == images.shape and unneeded.min() >= 0 and unneeded.max() <= 1
    assert generator.rectify(generator.encode(images)[0]).shape == (4, 2)
    assert any(isinstance(layer, Residual) for layer in generator.modules()) == (family == "residual")


@pytest.mark.parametrize(("height", "width"), [(18, 18), (33, 30), (96, 96), (100, 64), (224, 224), (4, 4)])
def test_the_residual_network_takes_any_size(height: int, width: int) -> None:
    images = torch.rand(2, 3, height, width)
    generator = residual_lvcvae(3, 4, height, width, latent=8).train()
    generated = generator.decode(generator.encode(images)[0])
    assert generated.shape == images.shape and generated.min() >= 0 and generated.max() <= 1
    assert max(feature_shape(height, width)[1:]) <= 8
    generated.sum().backward()
    assert all(weight.grad is not None for name, weight in generator.named_parameters()
               if "log_variance" not in name and "rectification" not in name)  # fmt: skip


def test_the_residual_network_has_a_bounded_number_of_weights() -> None:
    """At 32×32 it stays what it was for the committed weights, and a photograph needs at most 30 million."""
    count = {side: sum(w.numel() for w in residual_lvcvae(3, 10, side, side, 256).parameters()) for side in (32, 224)}
    assert count[32] == 1_637_706 and count[224] <= 30_000_000


def test_the_residual_network_refuses_sides_that_are_too_short_for_its_stride() -> None:
    images = torch.rand(4, 3, 200, 10)
    data = from_tensors(images, torch.arange(4) % 2, images, torch.arange(4) % 2)
    with pytest.raises(UserError, match="sides of at least 17 pixels here, got 200×10"):
        build_generator(Config(), data)
