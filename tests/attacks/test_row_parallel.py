"""Row-parallel passes: the same bits for any number of cores, and the old path for models that keep something."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from grfd.attacks import ALL_ATTACKS, pgd
from grfd.attacks.checked_model import CheckedModel
from grfd.attacks.gradients import slope
from grfd.attacks.losses import climbed
from grfd.attacks.row_parallel import in_threads, is_worth_parts, part_size, rows_are_independent
from grfd.models import LeNet5

IMAGES = torch.rand(150, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(150) % 10


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return LeNet5().eval()


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


BITS: dict[str, Tensor] = {}


@pytest.mark.parametrize("name", ["pgd", "apgd_t", "fab_t", "square", "a3"])
def test_the_same_bits_for_any_number_of_threads(net: nn.Module, threads: int, name: str) -> None:
    labels = net(IMAGES).argmax(1)
    keywords = {"pgd": {"step_size": 0.02, "steps": 5}, "square": {"n_queries": 30}, "a3": {"version": "quick"}}
    more = keywords.get(name, {"steps": 3, "targets": 2} | ({"steps": 10, "stretch": True} if name == "fab_t" else {}))
    generator = torch.Generator().manual_seed(0)
    result = ALL_ATTACKS[name].function(net, IMAGES, labels, eps=0.4, generator=generator, **more)
    assert torch.equal(result, BITS.setdefault(name, result))
    assert not torch.equal(result, IMAGES) and torch.get_num_threads() == threads


def test_the_gradient_is_that_of_the_whole_batch(net: nn.Module) -> None:
    net = net.double()
    images = IMAGES.double()
    model = CheckedModel(net, torch.float64, 9)
    assert model.in_parts
    parts = slope(model, images[None], LABELS, lambda *each: climbed("margin", *each))
    model.in_parts = False
    whole = slope(model, images[None], LABELS, lambda *each: climbed("margin", *each))
    for mine, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_a_model_that_cuts_the_graph_has_no_gradient(net: nn.Module) -> None:
    class Rounded(nn.Module):
        __module__ = "grfd.test"

        def forward(self, images: Tensor) -> Tensor:
            return net(images).detach()

    found = slope(CheckedModel(Rounded().eval(), torch.float32, 9), IMAGES[None], LABELS,
                  lambda *each: climbed("margin", *each))  # fmt: skip
    assert found.gradient.abs().sum() == 0 and torch.isfinite(found.lead).all()


class Foreign(nn.Module):
    """A user's own layer."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def test_which_models_are_computed_in_parts(net: nn.Module) -> None:
    assert rows_are_independent(net) and rows_are_independent(nn.Sequential(net, nn.Flatten()).eval())
    assert not rows_are_independent(lambda x: net(x))
    assert not rows_are_independent(nn.Sequential(Foreign(), net).eval())
    assert not rows_are_independent(LeNet5().train())
    random = LeNet5().eval()
    random.stochastic = True  # type: ignore[assignment]
    assert not rows_are_independent(random)
    with torch.autocast("cpu"):
        assert not rows_are_independent(net)
    handle = net.register_forward_pre_hook(lambda *_: None)
    assert not rows_are_independent(net)
    handle.remove()
    assert rows_are_independent(net)


def test_an_exception_in_a_thread_reaches_the_caller(threads: int) -> None:
    def fail(part: int) -> None:
        raise ArithmeticError(f"part {part}")

    with pytest.raises(ArithmeticError, match="part"):
        in_threads(fail, [1, 2])


def test_parts_of_large_images_are_small_until_there_are_none() -> None:
    batches = [torch.empty(2, 3, side, side) for side in (28, 32, 64, 96, 224)]
    assert [part_size(images) for images in batches] == [83, 64, 16, 7, 1]
    assert [is_worth_parts(images) for images in batches] == [True, True, True, False, False]
    assert not is_worth_parts(batches[0][:0])


def test_an_attack_within_a_callers_threads_is_the_same(net: nn.Module) -> None:
    def attacked(_: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pgd(net, IMAGES, LABELS, eps=0.05, step_size=0.02, steps=3, generator=generator)

    first, second = in_threads(attacked, [0, 1])
    assert torch.equal(first, second)
