"""DiffPure: the noising formula, the strided steps, and a gradient that the checkpoints do not change."""

import pytest
import torch
from torch import Tensor, nn

from grfd.defenses import diffpure
from grfd.defenses.diffpure import Purified, strided
from grfd.defenses.diffusion import Denoising, denoiser, diffused, noise_scheduler


@pytest.fixture
def purified() -> Purified:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        return Purified(denoiser(1, (16, 16)), classifier, start=100, steps=6, surrogate_steps=3).eval()


def test_noise_has_the_scheduler_s_strength() -> None:
    levels = noise_scheduler().alphas_cumprod
    generator = torch.Generator().manual_seed(0)
    signal, noise = (torch.randn(2, 1, 200, 200, generator=generator) for _ in range(2))
    mixed = diffused(signal, noise, levels[torch.tensor([0, 500])])
    assert torch.allclose(mixed.flatten(1).var(1), torch.ones(2), atol=0.02)
    assert torch.allclose(mixed[0], signal[0], atol=0.1) and (mixed[1] - signal[1]).abs().mean() > 0.3


@pytest.mark.parametrize(("start", "steps"), [(100, 5), (150, 10), (7, 20)])
def test_steps_lead_from_the_start_to_zero(start: int, steps: int) -> None:
    found = strided(start, steps)
    assert found[0] == start - 1 and found == sorted(set(found), reverse=True) and min(found) >= 0
    assert len(found) == min(start, steps)


def test_checkpoints_change_no_gradient(purified: Purified, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradient() -> Tensor:
        torch.manual_seed(0)
        return torch.autograd.grad(purified.surrogate()(images)[:, 0].sum(), images)[0]

    with torch.random.fork_rng():
        checkpointed = gradient()
        monkeypatch.setattr(diffpure, "checkpoint", lambda step, *given, use_reentrant: step(*given))
        assert torch.allclose(gradient(), checkpointed, atol=1e-6)
    assert checkpointed.abs().max() > 0


def test_it_answers_at_random_and_its_surrogate_takes_fewer_steps(purified: Purified) -> None:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    calls = []
    purified.network.register_forward_hook(lambda *_: calls.append(1))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        first, second = purified(images), purified(images)
        assert len(calls) == 12 and not torch.equal(first, second)
        purified.surrogate()(images)
        assert len(calls) == 15
        clean = purified.seen(images)
    assert clean.min() >= 0 and clean.max() <= 1


def test_stand_ins_have_the_gradients_they_are_named_for(purified: Purified) -> None:
    stand_ins = purified.stand_ins()
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.random.fork_rng():
        (passed,) = torch.autograd.grad(stand_ins["bpda"](images)[:, 0].sum(), images)
        linear = purified.classifier[1].weight[0].detach()
        assert torch.allclose(passed, linear.view(1, 1, 8, 8).expand(3, 1, 8, 8), atol=1e-6)
        state = torch.get_rng_state()
        first = stand_ins["fixed noises"](images)
        assert torch.equal(torch.get_rng_state(), state), "the caller's randomness is disturbed"
        assert torch.equal(stand_ins["fixed noises"](images), first) and not torch.equal(purified(images), first)
        (gradient,) = torch.autograd.grad(first[:, 0].sum(), images)
    assert gradient.abs().max() > 0 and not torch.allclose(gradient, passed, atol=1e-3)


def test_the_average_follows_the_weights() -> None:
    network, averaged = denoiser(1, (16, 16)), denoiser(1, (16, 16))
    averaged.load_state_dict(network.state_dict())
    objective = Denoising(network, averaged, limit=50, decay=0.9)
    before = {name: value.clone() for name, value in averaged.named_parameters()}
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    images, labels = torch.rand(3, 1, 8, 8), torch.zeros(3, dtype=torch.long)
    assert objective(images, labels, 0.0)["loss"].shape == (3,)
    for name, value in averaged.named_parameters():
        assert torch.allclose(value, before[name] + 0.9, atol=1e-5), (
            "the first weights, noise, are to be forgotten soon"
        )
    for _ in range(200):
        objective(images, labels, 0.0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    objective(images, labels, 0.0)
    for name, value in averaged.named_parameters():
        assert torch.allclose(value, before[name] + 1.1, atol=1e-4), "the decay is to rise to the recipe's 0.9"
    assert not any(weight.requires_grad for weight in averaged.parameters())


def test_many_images_go_through_in_parts(purified: Purified, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen draws of a whole evaluation batch must not need the memory of all of them at once."""
    monkeypatch.setattr(diffpure, "_IMAGES_AT_ONCE", 3)
    sizes = []
    purified.network.register_forward_hook(lambda module, given, answer: sizes.append(len(given[0])))
    images = torch.rand(7, 1, 8, 8).requires_grad_()
    seen = purified.seen(images)
    seen.sum().backward()
    assert seen.shape == images.shape and images.grad is not None and images.grad.flatten(1).norm(dim=1).min() > 0
    assert max(sizes) == 3
