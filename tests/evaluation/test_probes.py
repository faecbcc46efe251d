"""The masking checks on real LeNet5s: each fault is named by its own check, and honest models are left alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import one_hot

import grfd
from grfd.attacks import pgd
from grfd.data import Data
from grfd.data.record import as_images
from grfd.evaluation.case import Case, budgets_for
from grfd.evaluation.probes import PROBES
from grfd.evaluation.probes_of_logits import _at_chance
from grfd.models import LeNet5

EXAMPLES = 200


class Wrapped(nn.Module):
    """A model with something about its forward."""

    def __init__(self, model: nn.Module, change: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.model, images)


def trained(data: Data, network: nn.Module, *, eps: float = 0.0, shown: int = 8_000) -> nn.Module:
    """One or two epochs; on PGD examples where eps is given."""
    images, labels = as_images(data.train.images[:shown]), data.train.labels[:shown]
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(2 if eps else 1):
        for batch in torch.randperm(shown).split(100):
            network.eval()
            x = (
                pgd(network, images[batch], labels[batch], eps=eps, step_size=eps / 2, steps=3)
                if eps
                else images[batch]
            )
            network.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), labels[batch]).backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def honest(mnist: Data) -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropout = LeNet5()
        dropout.classifier.insert(1, nn.Dropout(0.3))
        normed = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        normed.extend([nn.Linear(8 * 144, 64), nn.ReLU(), nn.Linear(64, 10)])
        return {
            "standard": trained(mnist, LeNet5()),
            "adversarially trained": trained(mnist, LeNet5(), eps=0.1),
            "batch norm": trained(mnist, normed),
            "dropout": trained(mnist, dropout),
            "normalised": trained(mnist, Normalised(LeNet5())),
        }


@pytest.fixture(scope="module")
def case(mnist: Data) -> Case:
    return Case(Path(), {}, mnist.test.take(1_000), budgets_for(1), 0, torch.device("cpu"))


@pytest.fixture(scope="module")
def probe(case: Case) -> Callable[..., dict[str, str]]:
    """The flags that a model raises: name of the check → what it says; of all checks, or of those named."""
    test = case.split.take(EXAMPLES)

    def flags(model: nn.Module, *names: str) -> dict[str, str]:
        found = {}
        for name in names or PROBES:
            look = PROBES[name]
            with torch.random.fork_rng():
                torch.manual_seed(0)
                flagged, detail = look(case, model, as_images(test.images), test.labels)
            if flagged:
                found[name] = detail
        return found

    return flags


def _no_grad_purifier(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        purified = (images * 8).round() / 8
    return model(purified)


def _no_grad(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


def _wrong_gradient(model: nn.Module, images: Tensor) -> Tensor:
    """The right answers, the gradient of other ones."""
    wrong = model(images.flip(2))
    return wrong + (model(images) - wrong).detach()


def _sometimes_nan(model: nn.Module, images: Tensor) -> Tensor:
    return torch.where(images.mean((1, 2, 3))[:, None] > 0.2, torch.nan, model(images))


class Normalised(nn.Module):
    """A model that normalises in its first layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - 0.13) / 0.31)


def _jumps_where_bright(model: nn.Module, images: Tensor) -> Tensor:
    """Rounds the logits of images above a certain brightness, which is about half of them."""
    light = images.flatten(1).mean(1)[:, None]
    return torch.where(light > 0.12, model(images).round() + 1e-4 * model(images), model(images))


def _adapts(model: nn.Module, images: Tensor) -> Tensor:
    """Moves the image a little towards its likeliest class before it answers."""
    with torch.enable_grad():
        point = images.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(point).amax(1).sum(), point)
    return model(images + 1e-3 * slope)


def _steep_where_bright(model: nn.Module, images: Tensor) -> Tensor:
    """Logits whose size differs so much from image to image that no single factor suits all."""
    light = images.flatten(1).mean(1)
    return torch.where((light > light.quantile(0.7))[:, None], 1e4, 1.0) * model(images)


FAULTS: dict[str, tuple[str, Callable[[nn.Module, Tensor], Tensor]]] = {
    "8 bits": ("vanishing gradients", lambda model, images: model((images * 255).round() / 255)),
    "quantised": ("vanishing gradients", lambda model, images: model((images * 4).round() / 4)),
    "a purifier under no_grad": ("vanishing gradients", _no_grad_purifier),
    "a forward under no_grad": ("vanishing gradients", _no_grad),
    "a killed gradient": ("vanishing gradients", lambda model, images: model(images).detach() + 0 * model(images)),
    "a damped gradient": ("untrue gradients", lambda model, x: model(x).detach() * (1 - 1e-6) + 1e-6 * model(x)),
    "a wrong gradient": ("untrue gradients", _wrong_gradient),
    "noise": ("random outputs", lambda model, images: model(images + 0.1 * torch.randn_like(images))),
    "NaN for bright images": ("not a number", _sometimes_nan),
    "saturated": ("saturated logits", _steep_where_bright),
    "signs of the logits": ("logit jumps", lambda model, images: 3 * model(images).sign() + 1e-6 * model(images)),
    "rounded logits": ("logit jumps", lambda model, images: model(images).round() + 1e-4 * model(images)),
    "a staircase": ("logit jumps", lambda model, images: 4 * (model(images) / 4).floor() + 1e-3 * model(images)),
    "one-hot logits": ("logit jumps", lambda model, x: 5 * one_hot(model(x).argmax(1), 10) + 0.1 * model(x)),
    "jumps on some images": ("logit jumps", _jumps_where_bright),
    "a sharp softmax": ("logit jumps", lambda model, images: (50 * model(images)).softmax(1)),
    "pixels of 4 bits": ("logit jumps", lambda model, images: model((15 * images).round() / 15 + 1e-5 * images)),
    "pixels of 1 bit": ("logit jumps", lambda model, images: model((images > 0.5).float() + 1e-5 * images)),
    "an adaptation at test time": ("gradients at inference", _adapts),
    "softmax": ("probabilities for logits", lambda model, images: model(images).softmax(1)),
    "wants [0, 255]": ("inputs of another scale", lambda model, images: model(images / 255)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]) -> None:
    name, change = FAULTS[fault]
    flags = probe(Wrapped(honest["standard"], change), name)
    assert name in flags, flags


def test_a_normalisation_that_is_applied_twice_is_named(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    name = "inputs of another scale"
    assert "twice" in probe(Normalised(honest["normalised"]), name).get(name, "")


@pytest.mark.parametrize("fault", ["a killed gradient", "a purifier under no_grad", "a forward under no_grad"])
def test_random_search_gets_further_where_gradients_lead_nowhere(
    fault: str, honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    name = "gradient-free beats white-box"
    assert name in probe(Wrapped(honest["standard"], FAULTS[fault][1]), name)


@pytest.mark.parametrize(
    ("part", "name"), [("dropout", "random outputs"), ("batch norm", "answers depend on the batch")]
)
def test_training_mode_is_named(
    part: str, name: str, honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    state = {name: value.clone() for name, value in honest[part].state_dict().items()}
    honest[part].train()
    try:
        flags = probe(honest[part], name)
    finally:
        honest[part].load_state_dict(state)
        honest[part].eval()
    assert name in flags


@pytest.mark.parametrize("name", ["adversarially trained", "dropout", "batch norm", "normalised"])
def test_an_honest_model_raises_no_flag(
    name: str, honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    assert probe(honest[name]) == {}


def test_one_models_flags_do_not_reach_the_next(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    """The next one is the honest standard model."""
    assert probe(Wrapped(honest["standard"], _no_grad))
    assert probe(honest["standard"]) == {}


@pytest.mark.parametrize(
    ("right", "count", "classes", "chance"),
    [(4, 4, 10, False), (1, 1, 2, False), (100, 200, 2, True), (130, 200, 2, False), (20, 200, 10, True),
     (60, 200, 10, False), (0, 50, 10, True), (2, 3, 10, True), (1, 3, 10, True)],
)  # fmt: skip
def test_chance_is_what_guessing_often_gets(right: int, count: int, classes: int, chance: bool) -> None:
    assert _at_chance(right, count, classes) is chance


@pytest.mark.parametrize(
    ("name", "factor"),
    [("standard", 1e-6), ("adversarially trained", 0.01), ("standard", 100.0), ("adversarially trained", 1e6)],
)
def test_the_scale_of_the_logits_raises_no_flag(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]], name: str, factor: float
) -> None:
    assert probe(Wrapped(honest[name], lambda model, images: factor * model(images))) == {}


@pytest.mark.parametrize("defense", ["standard", "grfd"])
def test_the_committed_models_raise_no_flag(probe: Callable[..., dict[str, str]], defense: str) -> None:
    assert probe(grfd.load_defense(Path(__file__).parents[2] / "results/mnist-lenet5", defense=defense)) == {}


def test_an_attack_with_too_small_steps_is_unfinished(
    honest: dict[str, nn.Module], mnist: Data, tmp_path: Path
) -> None:
    budgets = budgets_for(1)
    slow = budgets | {"pgd": budgets["pgd"] | {"step_size": budgets["pgd"]["eps"] / 200, "steps": 100}}
    case = Case(tmp_path, {"model": honest["standard"]}, mnist.test, slow, 0, torch.device("cpu"))
    images, labels = as_images(mnist.test.images[:100]), mnist.test.labels[:100]
    flagged, detail = PROBES["unfinished optimisation"](case, honest["standard"], images, labels)
    assert flagged, detail


class WithSurrogate(nn.Module):
    """Differentiated through another network, for no reason."""

    def __init__(self, model: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.other = other

    def surrogate(self) -> nn.Module:
        return self.other

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def test_a_surrogate_that_is_another_model_is_named(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    name = "surrogate fooled, defense not"
    robust, plain = honest["adversarially trained"], honest["standard"]
    assert name in probe(WithSurrogate(robust, plain), name)
    assert name not in probe(WithSurrogate(plain, plain), name)


def test_counted_gradients_do_not_leak_to_the_next_model(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    name = "gradients at inference"
    assert name in probe(Wrapped(honest["standard"], _adapts), name)
    assert name not in probe(honest["standard"], name)


def _derivative_in_forward_mode(model: nn.Module, images: Tensor) -> Tensor:
    """Moves the image along a derivative that needs no backward pass."""
    with forward_ad.dual_level():
        best = model(forward_ad.make_dual(images, torch.ones_like(images))).amax(1)
        slope = forward_ad.unpack_dual(best).tangent
    return model(images + 1e-6 * slope[:, None, None, None])


# PyTorch itself uses it when forward mode is first used
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_differentiation_while_answering_is_flagged(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    name = "gradients at inference"
    assert "forward mode" in probe(Wrapped(honest["standard"], _derivative_in_forward_mode), name)[name]
    assert name not in probe(honest["standard"], name)


def test_logits_that_saturate_for_lack_of_a_declared_temperature_are_flagged(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    """The same logits without the declaration are only large, and a temperature that changes little is none."""
    name = "saturated logits"
    distilled = Wrapped(honest["standard"], lambda model, images: 100 * model(images))
    assert name not in probe(distilled, name)
    distilled.training_temperature = 100.0
    assert "temperature 100" in probe(distilled, name)[name]
    mild = Wrapped(honest["standard"], lambda model, images: model(images))
    mild.training_temperature = 2.0
    assert name not in probe(mild, name)


def test_two_stages_of_normalisation_are_still_named_if_logits_are_scaled(
    honest: dict[str, nn.Module], probe: Callable[..., dict[str, str]]
) -> None:
    """The scale of the logits hides no second normalisation, and is none itself."""
    name = "inputs of another scale"
    committed = grfd.load_defense(Path(__file__).parents[2] / "results/mnist-lenet5")
    for factor in (0.01, 100.0):
        assert name not in probe(Wrapped(committed, lambda model, images, factor=factor: factor * model(images)), name)
