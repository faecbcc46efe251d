"""What callers of the Python API give: models, data and arguments of every kind work or are refused in one line."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import grfd

CLASSES = 3


def tensors(count: int) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % CLASSES
    images = 0.5 * torch.rand(count, 1, 8, 8, generator=stream)
    images[torch.arange(count), 0, labels] += 0.5
    return images, labels


@pytest.fixture(scope="module")
def tiny() -> grfd.Data:
    return grfd.from_tensors(*tensors(30), *tensors(12))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def judged(model: Any, out: Path, data: Any, **asked: Any) -> dict[tuple[str, str, str], float]:
    settings = {"attacks": ["fgsm"], "protocols": ["whitebox"], "examples": 12} | asked
    found = grfd.evaluate_model(model, out / "own", data, **settings)
    return {(row.model, row.protocol, row.attack): row.accuracy for row in found.rows}


@pytest.mark.usefixtures("one_probe")
def test_a_function_is_judged_as_its_network_is(tiny: grfd.Data, tmp_path: Path) -> None:
    model = network().eval()
    assert judged(lambda images: model(images), tmp_path / "a", tiny) == judged(model, tmp_path / "b", tiny)


@pytest.mark.usefixtures("one_probe")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_judged_as_its_network_is(tiny: grfd.Data, tmp_path: Path) -> None:
    model = network().eval()
    expected = judged(model, tmp_path / "a", tiny)
    assert judged(torch.jit.script(model), tmp_path / "b", tiny) == expected
    assert judged(torch.jit.trace(model, tiny.test.images[:2]), tmp_path / "c", tiny) == expected


@pytest.mark.usefixtures("one_probe")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_network_has_no_gradient_but_may_bring_one(tiny: grfd.Data, tmp_path: Path) -> None:
    whole = network().eval()
    model = torch.ao.quantization.quantize_dynamic(whole, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(grfd.UserError, match=r"model is quantised, .* judge the network before quantisation"):
        judged(model, tmp_path, tiny)
    assert not (tmp_path / "own").exists()
    model.surrogate = lambda: whole
    assert ("model", "whitebox", "fgsm") in judged(model, tmp_path, tiny)


@pytest.mark.usefixtures("one_probe")
def test_tensors_and_calls_under_inference_mode(tiny: grfd.Data, tmp_path: Path) -> None:
    model = network().eval()
    expected = judged(model, tmp_path / "a", tiny)
    with torch.inference_mode():
        data = grfd.from_tensors(*tensors(30), *tensors(12))
        assert judged(model, tmp_path / "b", data) == expected
    assert judged(model, tmp_path / "c", data) == expected


@pytest.mark.usefixtures("one_probe")
def test_everything_is_given_back(tiny: grfd.Data, tmp_path: Path) -> None:
    model, source = network(), network().requires_grad_(False)
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = tiny.test.images.clone()
    torch.manual_seed(1)
    random.seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    judged(model, tmp_path, tiny, sources={"other": source}, protocols=["whitebox", "transfer"])
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    assert [part.training for part in model] == [True, True, False, True, True] and source.training
    assert all(each.requires_grad for each in model.parameters())
    assert not any(each.requires_grad for each in source.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(tiny.test.images, images)


class Writes(nn.Module):
    """Changes its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, images: Tensor) -> Tensor:
        images.data.clamp_(0.2, 0.4)
        return self.network(images)


def test_a_deployed_model_and_predictions_leave_tensors_and_generators(tiny: grfd.Data, tmp_path: Path) -> None:
    images = tiny.test.images.clone()
    run = grfd.fit("standard", tmp_path / "run", data=tiny, model=Writes, classifier_epochs=1, device="cpu", batch=8)
    state = torch.get_rng_state()
    defense = grfd.load_defense(run, data=tiny, model=Writes, defense="standard")
    assert torch.equal(torch.get_rng_state(), state) and not defense.training
    assert torch.equal(tiny.test.images, images)


@pytest.mark.usefixtures("one_probe")
@pytest.mark.parametrize(
    "asked",
    [{"examples": np.int64(5)}, {"attacks": ("fgsm",)}, {"attacks": "fgsm"}, {"eps": np.float32(0.1)}, {"eps": 1}],
)
def test_arguments_that_mean_the_same(tiny: grfd.Data, tmp_path: Path, asked: dict[str, Any]) -> None:
    assert ("model", "whitebox", "fgsm") in judged(network(), tmp_path, tiny, **asked)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "examples true": ({"examples": True}, "examples must be a whole number, got True"),
    "examples text": ({"examples": "5"}, "examples must be a whole number, got '5'"),
    "examples half": ({"examples": 2.5}, "examples must be a whole number, got 2.5"),
    "examples none": ({"examples": None}, "examples must be a whole number, got None"),
    "no examples": ({"examples": 0}, "examples must be at least 1, got 0"),
    "attacks a number": ({"attacks": 3}, "attacks is 3: expected a list of names"),
    "attacks of numbers": ({"attacks": [3]}, "attacks contains 3: expected names"),
    "an unknown attack": ({"attacks": ["nope"]}, "unknown attack 'nope'"),
    "protocols none": ({"protocols": None}, "protocols is None"),
    "eps text": ({"eps": "0.1"}, r"eps\[0\] must be a number"),
    "eps negative": ({"eps": -0.1}, r"eps\[0\] must be at least"),
    "eps in 255": ({"eps": 8}, "did you mean 8/255"),
    "eps undefined": ({"eps": float("nan")}, r"eps\[0\] must be a finite number"),
    "sources a list": ({"sources": [network()]}, "sources is a list: expected a dict of models by name"),
    "a source that is a class": ({"sources": {"a": nn.Flatten}}, r"a is the class Flatten: expected .* Flatten\(\)"),
    "a source outside": ({"sources": {"../../../out": network()}}, "cannot name a folder"),
    "a source in a folder": ({"sources": {"a/b": network()}}, "cannot name a folder"),
    "a source without a name": ({"sources": {"": network()}}, "cannot name a folder"),
    "a source called model": ({"sources": {"model": network()}}, "cannot be named 'model'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_mean_nothing(tiny: grfd.Data, tmp_path: Path, case: str) -> None:
    asked, message = REFUSED[case]
    with pytest.raises(grfd.UserError, match=message) as caught:
        judged(network(), tmp_path, tiny, **asked)
    assert "\n" not in str(caught.value) and not (tmp_path / "own").exists()


@pytest.mark.parametrize("model", [network, nn.Flatten, "lenet5", None, 3, {"a": network()}])
def test_what_is_no_model(tiny: grfd.Data, tmp_path: Path, model: Any) -> None:
    with pytest.raises(grfd.UserError, match="model"):
        judged(model, tmp_path, tiny)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("data", [None, 3, tensors(12), {"images": 1}])
def test_what_is_no_data(tmp_path: Path, data: Any) -> None:
    with pytest.raises(grfd.UserError, match=r"expected what grfd\.from_tensors or grfd\.load returns"):
        judged(network(), tmp_path, data)


@pytest.mark.parametrize("out", [None, 3, "", b"x", "a\0b"])
def test_what_is_no_folder(tiny: grfd.Data, out: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: grfd.evaluate_model(network(), out, tiny),
        lambda: grfd.train(out, data=tiny, model=network),
        lambda: grfd.fit("standard", out, data=tiny, model=network),
        lambda: grfd.load_defense(out),
        lambda: grfd.evaluate(out),
        lambda: grfd.results(out),
        lambda: grfd.predict(out, ["x.png"]),
    ]
    for call in calls:
        with pytest.raises(grfd.UserError, match="expected a path"):
            call()


UNTRAINABLE: dict[str, tuple[Any, str]] = {
    "a network": (network(), "is one network .Sequential.: expected a function or class"),
    "a number": (3, "model is a int: expected a function or class"),
    "an unknown name": ("lenet6", "unknown model 'lenet6'"),
    "one each time": ((lambda model: lambda: model)(network()), "makes the same weights each time"),
    "no parameters": (lambda: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(CLASSES)), "no parameters to train"),
    "wants an argument": (lambda width: network(), "raised TypeError"),
    "one logit": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), r"\(2, 1\).*one logit for two classes"),
}


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_what_cannot_be_trained_leaves_no_folder(tiny: grfd.Data, tmp_path: Path, case: str) -> None:
    model, message = UNTRAINABLE[case]
    state = torch.get_rng_state()
    for call in (grfd.train, lambda out, **asked: grfd.fit("pgd-at", out, **asked)):
        with pytest.raises(grfd.UserError, match=message):
            call(tmp_path / "run", data=tiny, model=model, device="cpu")
    assert not (tmp_path / "run").exists() and torch.equal(torch.get_rng_state(), state)
