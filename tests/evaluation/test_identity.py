"""A record is of these weights, this code and these images, or it is made anew; damaged ones are one line."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from grfd.data import Split
from grfd.errors import UserError
from grfd.evaluation import records
from grfd.evaluation.case import Case
from grfd.evaluation.identity import same_settings
from grfd.evaluation.judge import attack_all
from grfd.evaluation.request import Request
from grfd.evaluation.scale import GAP, scale_of
from grfd.evaluation.stale import STALE
from grfd.models.checks import Function

BUDGETS = {"fgsm": {"eps": 0.05}, "cw": {"eps": 0.5, "steps": 20, "search_steps": 3}}


class Plain(nn.Module):
    """A linear model, whose logits may be scaled and whose input may be shifted."""

    def __init__(self, weight: Tensor, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.factor = factor
        self.shift = shift

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * ((images + self.shift).flatten(1) @ self.weight.T)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(5, 36, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def split(weight: Tensor) -> Split:
    images = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return Split(images, (images.flatten(1) @ weight.T).argmax(1))


@pytest.fixture
def case(split: Split, weight: Tensor, tmp_path: Path) -> Case:
    return Case(tmp_path, {"model": Plain(weight)}, split, BUDGETS, 0, torch.device("cpu"), sources=())


def _judged(case: Case, attack: str = "fgsm") -> records.Record:
    attack_all(case, Request(["whitebox"], [attack], 40))
    return records.read_records(case.folder)["model", "whitebox", attack]


def test_the_same_models_and_images_keep_the_record(case: Case) -> None:
    _judged(case)
    file = records.path_of(case.folder, "model", "whitebox", "fgsm")
    before = file.stat().st_mtime_ns
    _judged(case)
    assert file.stat().st_mtime_ns == before


def test_inverted_images_are_judged_anew(case: Case) -> None:
    first = _judged(case)
    inverted = replace(case, split=Split(1 - case.split.images, case.split.labels))
    second = _judged(inverted)
    assert first.clean.all() and not second.clean.all()


def test_other_labels_are_judged_anew(case: Case) -> None:
    _judged(case)
    second = _judged(replace(case, split=Split(case.split.images, (case.split.labels + 1) % 5)))
    assert not second.clean.any()


def test_other_weights_are_judged_anew(case: Case, weight: Tensor) -> None:
    _judged(case)
    assert not _judged(replace(case, models={"model": Plain(-weight)})).clean.any()


def test_other_code_with_the_same_weights_is_judged_anew(case: Case, weight: Tensor) -> None:
    first = _judged(case)
    other = replace(case, models={"model": Plain(weight, shift=3.0)})
    assert not np.array_equal(_judged(other).columns["clean_prediction"], first.columns["clean_prediction"])


def test_other_weights_leave_no_record_of_another_attack_behind(case: Case, weight: Tensor) -> None:
    """A table is made of all records of a folder, so those that this call did not ask for must fit, too."""
    both = replace(case, budgets=BUDGETS | {"pgd": {"eps": 0.05, "step_size": 0.02, "steps": 3}})
    attack_all(both, Request(["whitebox"], ["fgsm", "pgd"], 40))
    attack_all(replace(both, models={"model": Plain(-weight)}), Request(["whitebox"], ["fgsm"], 40))
    assert list(records.read_records(case.folder)) == [("model", "whitebox", "fgsm")]
    assert _stale(case) == ["1/records/model/whitebox/fgsm.npz", "1/records/model/whitebox/pgd.npz"]


def test_records_of_other_sources_stay_where_they_are_not_asked_for(case: Case, weight: Tensor) -> None:
    two = replace(case, models={"source": Plain(weight + 0.1), "model": Plain(weight)}, sources=("source",))
    attack_all(two, Request(["transfer"], ["fgsm"], 40))
    attack_all(case, Request(["whitebox"], ["fgsm"], 40))
    assert {key[1] for key in records.read_records(case.folder, "model")} == {"transfer", "whitebox"}


def test_permuted_classes_are_judged_anew(case: Case, weight: Tensor) -> None:
    class Permuted(Plain):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).flip(1)

    first = _judged(case)
    second = _judged(replace(case, models={"model": Permuted(weight)}))
    assert first.clean.all() and not second.clean.all()


class WithParts(Plain):
    """Differentiated and defended through networks of its own."""

    def __init__(self, weight: Tensor, stand_in: Tensor, surrogate: Tensor) -> None:
        super().__init__(weight)
        self.parts = {"stand-in": Plain(stand_in)}
        self.other = Plain(surrogate)

    def surrogate(self) -> nn.Module:
        return self.other

    def stand_ins(self) -> dict[str, nn.Module]:
        return self.parts

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        return {"weight": self.weight.detach()}


@pytest.mark.parametrize("part", ["stand_in", "surrogate"])
def test_what_is_attacked_in_its_place_is_part_of_a_model(case: Case, weight: Tensor, part: str) -> None:
    same = {"stand_in": weight + 0.1, "surrogate": weight + 0.1}
    _judged(replace(case, models={"model": WithParts(weight, **same)}))
    _judged(replace(case, models={"model": WithParts(weight, **same)}))
    assert not _stale(case)
    _judged(replace(case, models={"model": WithParts(weight, **same | {part: -weight})}))
    assert _stale(case) == ["1/records/model/whitebox/fgsm.npz"]


class Noisy(Plain):
    """Random: noise of a fixed strength on its input."""

    stochastic = True

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + self.factor * torch.rand_like(images))


def test_no_stale_record_replaces_an_earlier_one(case: Case, weight: Tensor) -> None:
    for factor in (1.0, -1.0, 1.0):
        _judged(replace(case, models={"model": Plain(weight, factor)}))
    assert _stale(case) == ["1/records/model/whitebox/fgsm.npz", "2/records/model/whitebox/fgsm.npz"]


def test_a_random_model_of_other_strength_is_another(case: Case, weight: Tensor) -> None:
    for strength in (0.1, 0.1, 0.2):
        assert not _stale(case)
        _judged(replace(case, models={"model": Noisy(weight, strength)}))
    assert _stale(case)


def test_functions_are_told_apart_by_their_answers(case: Case) -> None:
    for at in (0, 0, 3):
        assert not _stale(case)
        _judged(replace(case, models={"model": Function(lambda images, at=at: images.flatten(1)[:, at : at + 5])}))
    assert _stale(case)


def _stale(case: Case) -> list[str]:
    folder = case.folder / STALE
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.npz"))


def test_another_number_of_answers_is_another_model() -> None:
    def made(answers: object) -> dict:
        return {"models": {"m": {"weights": "w", "predicted": [], "answers": answers}}}

    assert same_settings(made([1.0]), made([1.0]))
    for odd in ([1.0, 2.0], ["x"], 3, None):
        assert not same_settings(made(odd), made([1.0]))


def test_a_record_of_more_images_than_there_are_is_made_anew(case: Case) -> None:
    _judged(case)
    fewer = replace(case, split=case.split.take(10))
    attack_all(fewer, Request(["whitebox"], ["fgsm"], 40))
    assert len(records.read_records(case.folder)["model", "whitebox", "fgsm"]) == 10


@pytest.mark.parametrize("factor", [1e-6, 0.01, 100.0])
def test_the_white_box_row_does_not_depend_on_the_scale_of_the_logits(
    case: Case, weight: Tensor, tmp_path: Path, factor: float
) -> None:
    plain = _judged(case)
    scaled = _judged(replace(case, folder=tmp_path / "scaled", models={"model": Plain(weight, factor)}))
    assert 0 < plain.robust.mean() < 1
    assert np.array_equal(plain.robust, scaled.robust)


@settings(max_examples=50, deadline=None)
@given(factor=st.floats(1e-8, 1e8), seed=st.integers(0, 1000))
def test_the_scale_is_inverse_to_that_of_the_logits(factor: float, seed: int) -> None:
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert scale_of(factor * logits) * factor == pytest.approx(scale_of(logits), rel=1e-9)


def test_at_that_scale_the_median_gap_is_the_one_that_is_meant() -> None:
    logits = torch.randn(31, 4, generator=torch.Generator().manual_seed(0))
    best = (scale_of(logits) * logits).topk(2, dim=1).values
    assert (best[:, 0] - best[:, 1]).median() == pytest.approx(GAP, rel=1e-5)


def test_where_there_is_no_gap_the_logits_stay_as_they_are() -> None:
    assert scale_of(torch.zeros(2, 3)) == scale_of(torch.full((2, 3), torch.nan)) == scale_of(torch.zeros(0, 3)) == 1


def _broken(case: Case, change: Callable[[dict], dict]) -> None:
    file = records.path_of(case.folder, "model", "whitebox", "fgsm")
    with np.load(file) as stored:
        content = change(dict(stored))
    np.savez_compressed(file, **content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"label": c["label"][:-1]}, "different lengths"),
        (lambda c: c | {"label": c["label"].astype(float) * np.nan}, "expected whole numbers"),
        (lambda c: c | {"norm": c["norm"] * np.inf}, "does not contain finite numbers only"),
        (lambda c: {k: v if k == "settings" else np.concatenate([v, v]) for k, v in c.items()}, "count the images"),
        (lambda c: c | {"settings": np.array("[]")}, "name no attack"),
        (lambda c: {k: v for k, v in c.items() if k != "index"}, "index"),
    ],
)
def test_a_damaged_record_is_one_line(case: Case, change: Callable, message: str) -> None:
    _judged(case)
    _broken(case, change)
    with pytest.raises(UserError, match=message) as caught:
        _judged(case)
    assert "\n" not in str(caught.value) and "delete it" in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), cut=st.integers(0, 2000), flip=st.integers(0, 2000))
def test_any_bytes_are_a_record_or_one_line(case: Case, content: bytes, cut: int, flip: int) -> None:
    file = case.folder / "any.npz"
    columns = dict.fromkeys(records.WHOLE_NUMBERS, np.arange(3)) | dict.fromkeys(
        ("norm", "queries"), np.zeros(3, np.float32)
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, settings=np.array(json.dumps({"attack": {}})), **columns)
    whole = bytearray(buffer.getvalue())
    whole[flip % len(whole)] ^= 1 + cut % 255
    for candidate in (content, bytes(whole[:cut]), bytes(whole)):
        file.write_bytes(candidate)
        try:
            record = records.read_record(file)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert record is not None and len(record) == 3
        assert file.read_bytes() == candidate
