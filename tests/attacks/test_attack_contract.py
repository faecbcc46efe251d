"""What every attack of the registries promises to its caller."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS

Attacker = Callable[..., Tensor]
NORM_ATTACKS = [(name, norm) for name, entry in ALL_ATTACKS.items() for norm in ("l2", "l1") if norm in entry.norms]
"""Attacks, and the norms other than L∞ in which they can be bounded."""
every_attack = pytest.mark.parametrize("name", ALL_ATTACKS)
drawing = pytest.mark.parametrize(
    "name", [n for n, entry in ALL_ATTACKS.items() if n not in ("fgsm", "bim", "mifgsm") and not entry.minimal]
)
in_expectation = pytest.mark.parametrize(
    "name",
    [n for n, entry in ALL_ATTACKS.items() if n not in ("pixle", "aa", "aa_torchattacks") and not entry.minimal],
)
Strong = dict[str, dict[str, Any]]


def _enough(name: str, strong: Strong) -> dict[str, Any]:
    """What it takes to move any image at all: AdvGAN's long training is not needed for that."""
    return {} if name in ("advgan", "se_advgan") else strong.get(name, {})


def takes(name: str, keyword: str) -> bool:
    return keyword in inspect.signature(ALL_ATTACKS[name].function).parameters


def accuracy(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


@every_attack
@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    classes=st.sampled_from([2, 3, 10]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    eps=st.floats(0, 0.6),
    active_set=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_ball_and_box(
    attack: Attacker,
    name: str,
    batch: int,
    channels: int,
    height: int,
    width: int,
    classes: int,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    eps: float,
    active_set: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Stretched past the box and clamped: black and white pixels are as common as grey ones.
    images = (torch.rand(batch, channels, height, width, dtype=dtype, generator=generator) * 2 - 0.5).clamp(0, 1)
    images = images.to(memory_format=memory_format)
    weight = torch.randn(classes, channels * height * width, dtype=dtype, generator=generator)

    def model(x: Tensor) -> Tensor:
        return x.flatten(1) @ weight.T

    labels = torch.randint(classes, (batch,), generator=generator)
    result = attack(name, model, images, labels, eps=eps, active_set=active_set, generator=generator)
    assert (result.shape, result.dtype) == (images.shape, dtype)
    assert result.isfinite().all() and not result.requires_grad
    if batch:
        assert (result - images).abs().max() <= eps + 1e-6
        assert result.min() >= 0 and result.max() <= 1


@every_attack
def test_other_bounds(attack: Attacker, name: str, strong: Strong, small_net: Callable[..., nn.Module]) -> None:
    net = small_net()
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labels = net(images).argmax(1)
    keywords = {"eps": 0.1} | strong.get(name, {})
    result = attack(name, net, images, labels, bounds=(-1.0, 1.0), **keywords)
    assert result.min() < 0 and result.abs().max() <= 1
    assert name == "pixle" or (result - images).abs().max() <= keywords["eps"] + 1e-6
    assert accuracy(net, result, labels) < 1


@pytest.mark.parametrize(("name", "norm"), NORM_ATTACKS)
@settings(max_examples=10, deadline=None)
@given(
    batch=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    classes=st.sampled_from([2, 3, 10]),
    eps=st.floats(0, 4),
    active_set=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_other_balls_and_box(
    attack: Attacker,
    name: str,
    norm: str,
    batch: int,
    channels: int,
    height: int,
    width: int,
    classes: int,
    eps: float,
    active_set: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(batch, channels, height, width, generator=generator) * 2 - 0.5).clamp(0, 1)
    weight = torch.randn(classes, channels * height * width, generator=generator)
    labels = torch.randint(classes, (batch,), generator=generator)
    result = attack(
        name,
        lambda x: x.flatten(1) @ weight.T,
        images,
        labels,
        eps=eps,
        norm=norm,
        active_set=active_set,
        generator=generator,
    )
    assert result.isfinite().all() and result.shape == images.shape
    assert ((result - images).flatten(1).norm(dim=1, p=2 if norm == "l2" else 1) <= eps * (1 + 1e-5) + 1e-6).all()
    assert ((result >= 0) & (result <= 1)).all()


@every_attack
def test_lowers_accuracy(attack: Attacker, name: str, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, images, labels = victim
    result = attack(name, net, images, labels, **{"eps": 0.1} | strong.get(name, {}))
    assert accuracy(net, result, labels) < 0.4


@pytest.mark.parametrize(("name", "norm"), NORM_ATTACKS)
def test_lowers_accuracy_in_other_norms(
    attack: Attacker, name: str, norm: str, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    eps = 0.6 if norm == "l2" else 4.0
    result = attack(name, net, images, labels, **{"eps": eps, "norm": norm} | strong.get(name, {}))
    assert accuracy(net, result, labels) < 0.4


@every_attack
@pytest.mark.parametrize("training", [True, False])
def test_model_is_held_still_and_given_back(
    attack: Attacker, name: str, training: bool, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    net.train(training)
    net[1].train(not training)
    net[0].bias.requires_grad_(False)
    before = [(module.training) for module in net.modules()], [p.requires_grad for p in net.parameters()]
    seen = []
    net.register_forward_pre_hook(
        lambda module, _: seen.append(
            ([part.training for part in module.modules()], any(p.requires_grad for p in module.parameters()))
        )
    )
    attack(name, net, images, labels)
    assert seen and all(state == (before[0], False) for state in seen)
    assert ([module.training for module in net.modules()], [p.requires_grad for p in net.parameters()]) == before
    assert all(p.grad is None for p in net.parameters())


@every_attack
def test_model_is_given_back_after_an_exception(
    attack: Attacker, name: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    net.train()

    def fail(module: nn.Module, inputs: Any) -> None:
        raise ArithmeticError("the model broke")

    net.register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError, match="the model broke"):
        attack(name, net, images, labels)
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())
    assert torch.is_grad_enabled()


@every_attack
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_under_a_caller_without_gradients(
    attack: Attacker, name: str, context: Callable[[], Any], strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    expected = attack(name, net, images, labels, **_enough(name, strong))
    with context():
        result = attack(name, net, images.clone(), labels.clone(), **_enough(name, strong))
    assert torch.equal(result, expected)
    assert not torch.equal(result, images)


@every_attack
def test_a_seed_fixes_every_bit_and_the_global_generator_is_left_alone(
    attack: Attacker, name: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    state = torch.get_rng_state()
    first, second = attack(name, *victim), attack(name, *victim)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@drawing
def test_without_a_generator_the_global_one_is_drawn_from(
    attack: Attacker, name: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = attack(name, *victim, generator=None)
        state = torch.get_rng_state()
        torch.manual_seed(3)
        before = torch.get_rng_state()
        second = attack(name, *victim, generator=None)
    assert torch.equal(first, second)
    assert not torch.equal(state, before)


@every_attack
def test_misclassified_images_come_back_as_they_were(
    attack: Attacker, name: str, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    labels = labels.clone()
    labels[::2] = (labels[::2] + 1) % 10
    result = attack(name, net, images, labels, **_enough(name, strong))
    assert torch.equal(result[::2], images[::2])
    assert not torch.equal(result[1::2], images[1::2])


@every_attack
def test_the_callers_tensors_are_left_alone(
    attack: Attacker, name: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    kept, images = images.clone(), images.requires_grad_()
    result = attack(name, net, images, labels)
    assert torch.equal(images.detach(), kept) and images.grad is None
    assert result.data_ptr() != images.data_ptr() and not result.requires_grad


SOME: Strong = {
    "cw": {"eps": 0.5, "steps": 60, "learning_rate": 0.05, "search_steps": 6, "initial_c": 0.1},
    "ddn": {"eps": 0.4, "steps": 40},
    "pixle": {"eps": 1.0, "restarts": 3},
    "hmcam": {"step_size": 1.0},
    "simba": {"eps": 0.8, "n_queries": 400},
}
"""Budgets under which some images are fooled and some are not."""


# AdvGAN's network is trained on what still stands: another set is another network, and other verdicts. HopSkipJump
# goes on from every adversarial image to a nearer one, so that no example is dropped before its last query.
@pytest.mark.parametrize(
    "name", [name for name in ALL_ATTACKS if name not in ("fgsm", "advgan", "se_advgan", "hopskipjump")]
)
def test_dropping_fooled_examples_saves_work_and_changes_no_verdict(
    attack: Attacker, name: str, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    seen: dict[bool, int] = {}
    robust: dict[bool, float] = {}
    longer: dict[str, Any] = {"n_queries": 100} if takes(name, "n_queries") else {"steps": 20}
    longer = {"eps": 0.06} | (longer if takes(name, next(iter(longer))) else {}) | SOME.get(name, {})
    for active_set in (True, False):
        rows: list[int] = []
        hook = net.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.append(len(inputs[0])))
        result = attack(name, net, images, labels, active_set=active_set, **longer)
        hook.remove()
        seen[active_set], robust[active_set] = sum(rows), accuracy(net, result, labels)
    assert seen[True] < 0.9 * seen[False]
    assert 0 < robust[True] < 1
    # The random draws fall on other examples, so that a borderline one may go either way.
    assert abs(robust[True] - robust[False]) <= 2 / len(images)


@every_attack
@pytest.mark.parametrize("active_set", [True, False])
def test_nan_logits_count_as_wrong_and_poison_nobody(
    attack: Attacker, name: str, active_set: bool, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    images = images.clone()
    images[0] = 1.0
    labels[0] = 0

    def model(x: Tensor) -> Tensor:
        return torch.where(x.mean((1, 2, 3))[:, None] > 0.85, torch.nan, net(x))

    result = attack(name, model, images, labels, active_set=active_set, **{"eps": 0.1} | strong.get(name, {}))
    assert result.isfinite().all()
    assert not active_set or torch.equal(result[0], images[0])
    assert accuracy(model, result[1:], labels[1:]) < 0.9


@every_attack
def test_nan_gradients_spoil_no_other_pixel(
    attack: Attacker, name: str, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    images = images.clone()
    images[:, :, 0, 0] = 0.0

    def model(x: Tensor) -> Tensor:
        """The slope of √ at 0 is infinite, and 0 times it is NaN: at one pixel, as long as that is black."""
        return net(x) + 0 * x[:, :, 0, 0].clamp_min(0).sqrt()

    labels = model(images).argmax(1)
    result = attack(name, model, images, labels, **{"eps": 0.1} | strong.get(name, {}))
    assert result.isfinite().all()
    assert accuracy(model, result, labels) < 0.9


@every_attack
def test_a_model_that_cuts_the_graph_is_attacked_as_one_of_zero_gradient(
    attack: Attacker, name: str, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    cut = attack(name, lambda x: net(x.detach()), images, labels)
    flat = attack(name, lambda x: net(x.detach() + 0 * x), images, labels)
    assert torch.equal(cut, flat)


@in_expectation
def test_a_random_model(attack: Attacker, name: str, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Nearly as many images are fooled as without the noise. Random signs of the same size fool one of 24."""
    net, images, labels = victim
    noise = torch.Generator().manual_seed(5)
    keywords = {"eps": 0.1} | strong.get(name, {}) | ({"samples": 20} if takes(name, "samples") else {})

    def noisy(x: Tensor) -> Tensor:
        return net(x + 0.05 * torch.randn(x.shape, generator=noise))

    against_noisy, against_plain = (
        attack(name, model, images, labels, active_set=False, **keywords) for model in (noisy, net)
    )
    assert (against_noisy - images).abs().max() <= keywords["eps"] + 1e-6
    assert accuracy(net, against_noisy, labels) <= accuracy(net, against_plain, labels) + 3 / 24 < 0.5


class InPlace(nn.Module):
    """A model that changes what it is given before it answers."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net = net
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        self.change(images)
        return self.net(images)


@every_attack
@pytest.mark.parametrize(
    "change",
    [lambda x: x.data.mul_(8).sub_(20), lambda x: x.mul_(1.0), lambda x: x.data.zero_().add_(0.5)],
    ids=["data", "in place", "constant"],
)
def test_a_model_that_changes_its_input_changes_nothing_of_the_callers(
    attack: Attacker, name: str, change: Callable[[Tensor], Any], victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    kept = images.clone()
    result = attack(name, InPlace(net, change), images, labels)
    assert torch.equal(images, kept)
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    assert name == "pixle" or (result - images).abs().max() <= 0.05 + 1e-6


@every_attack
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_attacked_in_single_precision(
    attack: Attacker, name: str, dtype: torch.dtype, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    halved, images = net.to(dtype), images.to(dtype)
    labels = halved(images).argmax(1)
    result = attack(name, halved, images, labels, **{"eps": 0.1} | strong.get(name, {}))
    eps = strong.get(name, {}).get("eps", 0.1)
    assert result.dtype == dtype and result.isfinite().all()
    assert result.min() >= 0 and result.max() <= 1
    assert name == "pixle" or (result.float() - images.float()).abs().max() <= eps + torch.finfo(dtype).eps
    assert accuracy(halved, result, labels) < 0.5


@pytest.mark.parametrize("name", ["fab", "fab_t"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [2.0**-84, 2.0**-66, 2.0**40])
def test_fab_does_not_depend_on_the_scale_of_the_logits(
    attack: Attacker, name: str, norm: str, scale: float, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    keywords = {"eps": 0.1 if norm == "linf" else 0.6, "norm": norm, "steps": 10}
    plain = attack(name, net, images, labels, **keywords)
    scaled = attack(name, lambda x: net(x) * scale, images, labels, **keywords)
    assert torch.equal(plain, scaled)
    assert 0 < accuracy(net, plain, labels) < 0.7


@pytest.mark.parametrize("name", ["fab_t", "cw", "ddn", "fmn", "deepfool"])
def test_stretched_perturbations_have_the_length_of_epsilon(
    attack: Attacker, name: str, strong: Strong, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    images = 0.4 + 0.2 * images  # far from the box, which would shorten a perturbation
    labels = net(images).argmax(1)
    keywords = {"active_set": False, "stretch": True} | strong.get(name, {}) | {"eps": 0.3}
    result = attack(name, net, images, labels, **keywords)
    change = (result - images).flatten(1)
    size = change.norm(dim=1) if ALL_ATTACKS[name].threat == "l2" else change.abs().amax(1)
    moved = size > 0
    assert moved.float().mean() > 0.8
    assert torch.allclose(size[moved], torch.tensor(0.3), rtol=1e-4)


def test_what_torchattacks_returns_is_the_clean_image_where_the_attack_fails(
    attack: Attacker, victim: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, images, labels = victim
    result = attack("aa_torchattacks", net, images, labels, eps=0.03, as_returned=True)
    stands = net(result).argmax(1) == labels
    assert 0 < stands.sum() < len(labels)
    assert torch.equal(result[stands], images[stands])
