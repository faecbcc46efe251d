"""Probes of a model are not made again where nothing has changed, and are made again where anything has."""

from pathlib import Path

import pytest
import torch
from torch import nn

from grfd import runs
from grfd.api import evaluating
from grfd.data import Data
from grfd.evaluation import checks, earlier_checks, probes
from grfd.evaluation.request import Request

REQUEST = Request(("whitebox",), ("fgsm",), 20)


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)).eval()


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that a probe has seen, in a checkout without uncommitted changes."""
    seen: list[nn.Module] = []
    first = next(iter(probes.PROBES))
    real, known = probes.PROBES[first], runs.provenance()

    def counted(case, model, images, labels):  # type: ignore[no-untyped-def]
        seen.append(model)
        return real(case, model, images, labels)

    for module in checks, earlier_checks:
        monkeypatch.setattr(module, "PROBES", {first: counted})
    monkeypatch.setattr(runs, "provenance", lambda: known | {"git_revision": "0" * 40})
    return seen


def test_only_a_model_that_is_new_or_has_changed_is_probed(
    tmp_path: Path, small: Data, probed: list[nn.Module]
) -> None:
    one, other = _network(0), _network(1)
    first = evaluating.evaluate_models({"one": one}, tmp_path, REQUEST, small)
    assert probed == [one]
    both = evaluating.evaluate_models({"one": one, "other": other}, tmp_path, REQUEST, small)
    assert probed == [one, other]
    assert [check for check in both.checks if check.model == "one"] == list(first.checks)
    assert {check.model for check in both.checks} == {"one", "other"}
    with torch.no_grad():
        one[1].weight.mul_(2)  # type: ignore[operator,union-attr]
    evaluating.evaluate_models({"one": one}, tmp_path, REQUEST, small)
    assert probed == [one, other, one]


class Own(nn.Module):
    """A user's own layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)  # type: ignore[no-any-return]


def test_a_users_own_layers_are_probed_each_time(tmp_path: Path, small: Data, probed: list[nn.Module]) -> None:
    """Their code may have changed, though weights and answers have not."""
    model = Own(_network(0)).eval()
    for _ in range(2):
        evaluating.evaluate_models({"model": model}, tmp_path, REQUEST, small)
    assert len(probed) == 2


def test_another_version_or_a_changed_package_probes_again(
    tmp_path: Path, small: Data, probed: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, known = _network(0), runs.provenance()
    for revision, times in ("1" * 40, 1), ("2" * 40, 2), ("2" * 40, 2), ("3" * 40 + "+", 3), ("3" * 40 + "+", 4):
        now = known | {"git_revision": revision}
        monkeypatch.setattr(runs, "provenance", lambda now=now: now)
        evaluating.evaluate_models({"model": model}, tmp_path, REQUEST, small)
        assert len(probed) == times
