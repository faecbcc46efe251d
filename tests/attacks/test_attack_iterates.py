"""Which iterate is returned, what restarts add, and gradients that sum over several draws."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ascent, eotpgd, fgsm, pgd, vmifgsm


def _band(x: Tensor) -> Tensor:
    """Wrong only while the pixel is near 0.35, with a gradient that always leads on past it."""
    pixel = x.flatten(1)
    inside = ((pixel - 0.35).abs() < 0.01).to(x.dtype)
    return torch.cat([torch.zeros_like(pixel), pixel - 10 + 20 * inside], 1)


@pytest.mark.parametrize("active_set", [True, False])
@pytest.mark.parametrize("attack", [pgd, eotpgd, vmifgsm])
def test_a_success_along_the_way_is_kept(attack: Callable[..., Tensor], active_set: bool) -> None:
    images, labels = torch.full((2, 1, 1, 1), 0.25), torch.zeros(2, dtype=torch.long)
    keywords = {} if attack is vmifgsm else {"random_start": False}
    shared = {"eps": 0.5, "step_size": 0.05, "steps": 6, "active_set": active_set} | keywords
    assert torch.allclose(attack(_band, images, labels, **shared), torch.tensor(0.35))
    last = attack(_band, images, labels, **shared, keep="last")
    assert torch.allclose(last, torch.tensor(0.35 if active_set else 0.55))


def test_restarts_never_lose_and_keep_the_best() -> None:
    def model(x: Tensor) -> Tensor:
        """Wrong only in a narrow band that no gradient leads to: a matter of where the start falls."""
        pixel = x.flatten(1)
        return torch.cat([torch.ones_like(pixel), 3.0 * ((pixel - 0.6).abs() < 0.02)], 1) + 0 * pixel

    images, labels = torch.full((200, 1, 1, 1), 0.5), torch.zeros(200, dtype=torch.long)

    def fooled(restarts: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        result = pgd(model, images, labels, eps=0.2, step_size=0.1, steps=1, restarts=restarts, generator=generator)
        return model(result).argmax(1) != labels

    one, ten = fooled(1), fooled(10)
    assert 0 < one.sum() < 0.4 * len(images)
    assert bool((ten | ~one).all())
    assert ten.sum() > 2 * one.sum()


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
def test_every_loss_fools_a_net_that_is_very_confident(loss: str, victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    result = pgd(lambda x: 1e4 * net(x), images, labels, eps=0.1, step_size=0.02, steps=10, loss=loss)
    assert (net(result).argmax(1) == labels).float().mean() < 0.2


def test_the_literal_cross_entropy_is_blind_there(victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    result = fgsm(lambda x: 1e6 * net(x), images, labels, eps=0.1, loss="literal_cross_entropy")
    assert torch.equal(result, images)
    assert not torch.equal(fgsm(lambda x: 1e6 * net(x), images, labels, eps=0.1), images)


@pytest.mark.parametrize("attack", [eotpgd, vmifgsm])
def test_the_sum_over_draws_is_that_of_the_cross_entropies(
    attack: Callable[..., Tensor], small_net: Callable[..., nn.Module]
) -> None:
    """In float64 nothing underflows here, and the sum in factors must be the literal one, draw for draw."""
    net = small_net(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 8, 8, dtype=torch.float64, generator=generator)
    labels = net(images).argmax(1)
    noise = torch.randn(64, 1, 8, 8, dtype=torch.float64, generator=generator)

    def model(x: Tensor) -> Tensor:
        """A draw of its own for each row of the batch, but the same in each call. Confident, each draw differently."""
        return 30 * net(x + 0.3 * noise[: len(x)])

    keywords = {"samples": 8} if attack is eotpgd else {}
    results = [
        attack(
            model,
            images,
            labels,
            eps=0.1,
            step_size=0.02,
            steps=5,
            loss=loss,
            active_set=False,
            keep="last",
            generator=torch.Generator().manual_seed(0),
            **keywords,
        )
        for loss in ("cross_entropy", "literal_cross_entropy", "margin")
    ]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    assert not torch.allclose(results[0], results[2], rtol=0, atol=1e-3)


def test_more_draws_see_through_more_noise(victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    clear = fgsm(net, images, labels, eps=0.01)
    agreement = []
    for samples in (1, 4, 64):
        noise = torch.Generator().manual_seed(7)

        def model(x: Tensor, noise: torch.Generator = noise) -> Tensor:
            return net(x + 0.3 * torch.randn(x.shape, generator=noise))

        stepped = eotpgd(
            model,
            images,
            labels,
            eps=0.01,
            step_size=0.01,
            steps=1,
            samples=samples,
            random_start=False,
            active_set=False,
            keep="last",
        )
        agreement.append(stepped.isclose(clear).float().mean().item())
    assert agreement == sorted(agreement) and agreement[2] > agreement[0] + 0.05


@pytest.mark.parametrize("scale", [10.0, 1e4])
def test_vmifgsm_is_not_frozen_by_a_saturated_model(scale: float, victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    result = vmifgsm(lambda x: scale * net(x), images, labels, eps=0.1, step_size=0.02, steps=10)
    assert (net(result).argmax(1) == labels).float().mean() < 0.2


def test_vmifgsm_recovers_from_a_zero_gradient_where_the_original_does_not() -> None:
    def model(x: Tensor) -> Tensor:
        """Flat up to 0.4, rising beyond it: neighbours see the slope, the image itself does not."""
        slope = (x.flatten(1) - 0.4).clamp_min(0)
        return torch.cat([torch.full_like(slope, 10.0), slope], 1)

    images, labels = torch.full((1, 1, 1, 1), 0.35), torch.zeros(1, dtype=torch.long)
    keywords = {"eps": 0.3, "step_size": 0.1, "steps": 5, "neighbours": 16}
    generator = torch.Generator().manual_seed(0)
    assert vmifgsm(model, images, labels, **keywords, generator=generator).item() == pytest.approx(0.65)
    frozen = vmifgsm(model, images, labels, **keywords, momentum_floor=0.0, generator=generator)
    assert frozen.item() == pytest.approx(0.35)


@pytest.mark.parametrize("attack", [pgd, eotpgd])
def test_an_iterate_that_goes_in_circles_leaves_and_nothing_is_lost(
    attack: Callable[..., Tensor], victim: tuple[nn.Module, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, images, labels = victim
    queries = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal queries
        queries += len(x)
        return net(x)

    def run() -> tuple[Tensor, int]:
        nonlocal queries
        queries = 0
        stream = torch.Generator().manual_seed(0)
        keywords = {"eps": 0.01, "step_size": 0.004, "steps": 60, "generator": stream}
        return attack(counted, images, labels, **keywords), queries

    adversarial, few = run()
    fresh = iter(range(10**9))
    monkeypatch.setattr(ascent, "image_hashes", lambda x: torch.tensor([next(fresh) for _ in x], dtype=torch.long))
    walked, many = run()
    assert torch.equal(adversarial, walked)
    assert few < many / 2


def test_images_have_the_same_fingerprint_if_they_are_the_same_to_the_bit() -> None:
    images = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[7, 1, 2, 3] = torch.nextafter(other[7, 1, 2, 3], torch.tensor(2.0))
    for dtype in (torch.float32, torch.float64):
        marks = ascent.image_hashes(images.to(dtype))
        assert len(marks.unique()) == len(images)
        assert (marks != ascent.image_hashes(other.to(dtype))).nonzero().flatten().tolist() == [7]
        assert torch.equal(marks, ascent.image_hashes(images.to(dtype, memory_format=torch.channels_last)))


def test_one_draw_is_enough_where_all_draws_agree(victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    looks: list[int] = []

    def model(x: Tensor) -> Tensor:
        if x.requires_grad:
            looks.append(len(x))
        return net(x)

    keywords = {"eps": 0.05, "step_size": 0.02, "steps": 5, "samples": 4}
    drawn = [
        eotpgd(model, images, labels, **keywords, active_set=active, generator=torch.Generator().manual_seed(0))
        for active in (True, False)
    ]
    assert looks[0] == 4 * len(images) and max(looks[1:-5]) <= len(images)
    assert looks[-5:] == [4 * len(images)] * 5
    assert all((net(each).argmax(1) == labels).float().mean() < 0.9 for each in drawn)
