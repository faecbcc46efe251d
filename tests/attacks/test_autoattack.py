"""AutoAttack: the chain is at least as strong as its parts, and `rand` is one for models that answer at random."""

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import apgd_ce, apgd_t, autoattack


@pytest.mark.parametrize("active_set", [True, False])
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_it_is_at_least_as_strong_as_its_parts(
    version: str, active_set: bool, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim

    def fooled(attack: object, **keywords: object) -> Tensor:
        stream = torch.Generator().manual_seed(0)
        common = {"eps": 0.025, "steps": 15, "active_set": active_set, "generator": stream}
        return net(attack(net, images, labels, **common, **keywords)).argmax(1) != labels  # type: ignore[operator]

    whole = fooled(autoattack, version=version, n_queries=40)
    assert 0 < whole.sum() < len(images)
    assert bool((whole | ~fooled(apgd_ce)).all())
    assert whole.sum() >= fooled(apgd_t).sum()


def test_rand_sees_through_noise_that_hides_the_gradient(victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim

    def noisy(x: Tensor) -> Tensor:
        return net(x + 0.05 * torch.randn_like(x))

    adversarial = autoattack(noisy, images, labels, eps=0.1, version="rand", steps=10)
    clean, attacked = (
        torch.stack([noisy(each).argmax(1) == labels for _ in range(20)]).float().mean()
        for each in (images, adversarial)
    )
    assert attacked < 0.5 * clean
