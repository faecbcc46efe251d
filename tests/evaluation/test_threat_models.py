"""Chosen threat models, judged on a linear model, for which the exact answer is known in every norm."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grfd.attacks.budgets import Ball
from grfd.data import Split
from grfd.errors import UserError
from grfd.evaluation import kept_images, records
from grfd.evaluation.case import Case, Task, budgets_for, task_at
from grfd.evaluation.judge import attack_all
from grfd.evaluation.request import Request, attacks_for
from grfd.evaluation.results import Row
from grfd.evaluation.threat_rows import threat_rows


class Linear(nn.Module):
    """Logits W·(x − ½), so that the nearest decision boundary of each image is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.weight.T


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(4, 36, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def case(weight: Tensor, tmp_path: Path) -> Case:
    images = 0.3 + 0.4 * torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    split = Split(images, ((images.flatten(1) - 0.5) @ weight.T).argmax(1))
    return Case(tmp_path, {"model": Linear(weight)}, split, budgets_for(1), 0, torch.device("cpu"), sources=())


def boundary(case: Case, weight: Tensor, order: float) -> Tensor:
    """The distance of each image to the nearest boundary, in the norm whose dual norm has this order."""
    images, labels = case.split.images.flatten(1) - 0.5, case.split.labels
    logits = images @ weight.T
    gaps = logits.gather(1, labels[:, None]) - logits
    slopes = torch.linalg.vector_norm(weight[labels][:, None] - weight[None], ord=order, dim=2)
    return (gaps / slopes.clamp_min(1e-9)).scatter(1, labels[:, None], torch.inf).amin(1)


DUAL = {"linf": 1, "l2": 2}
EPS = (0.005, 0.01, 0.02, 0.05)


def accuracy(rows: list[Row], eps: float, attack: str = "worst") -> float:
    (row,) = [row for row in rows if row.eps == eps and row.attack == attack and row.protocol == "whitebox"]
    return row.accuracy


@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", (0.02, 0.05, 0.1, 0.2))])
def test_the_curve_is_the_exact_one_in_each_norm(case: Case, weight: Tensor, norm: str, eps: tuple[float, ...]) -> None:
    attack_all(case, Request(["whitebox"], ["pgd", "apgd_t"], 60, norm, eps))
    rows = threat_rows(case.folder)
    distance = boundary(case, weight, DUAL[norm])
    for each in eps:
        assert accuracy(rows, each) == pytest.approx((distance > each).float().mean().item(), abs=1 / 60)
    assert accuracy(rows, eps[0]) > accuracy(rows, eps[-1])
    assert {row.norm for row in rows} == {norm}


def test_an_example_that_falls_is_not_attacked_again(case: Case) -> None:
    attack_all(case, Request(["whitebox"], ["pgd"], 60, "linf", (0.01, 0.05)))
    first, second = (
        records.read_records(case.folder, root=Task("", "", "", Ball("linf", eps)).root)["model", "whitebox", "pgd"]
        for eps in (0.01, 0.05)
    )
    fell = ~first.robust
    assert 0 < fell.sum() < 60
    assert np.array_equal(first.columns["norm"][fell], second.columns["norm"][fell])
    assert (second.columns["norm"] <= 0.05 + 1e-6).all() and second.columns["norm"].max() > 0.01


def test_the_curve_falls_also_if_a_smaller_epsilon_is_asked_for_later(case: Case) -> None:
    """A record at 0.1 that found too little cannot lift the curve above what 0.02 found."""
    weak = replace(case, budgets=case.budgets | {"pgd": {"eps": 0.1, "step_size": 1e-9, "steps": 1}})
    attack_all(weak, Request(["whitebox"], ["fgsm"], 60, "linf", (0.1,)))
    path = records.path_of(case.folder, "model", "whitebox", "fgsm", Task("", "", "", Ball("linf", 0.1)).root)
    record = records.read_record(path)
    assert record is not None
    record.columns["adversarial_prediction"][:] = record.columns["label"]  # as if it had failed everywhere
    records.write_record(path, record)
    attack_all(case, Request(["whitebox"], ["fgsm"], 60, "linf", (0.02,)))
    rows = threat_rows(case.folder)
    assert accuracy(rows, 0.1) == accuracy(rows, 0.02) < 1


def test_an_epsilon_of_zero_is_the_clean_accuracy(case: Case) -> None:
    attack_all(case, Request(["whitebox", "adaptive"], ["pgd"], 60, None, (0, 0.1)))
    rows = threat_rows(case.folder)
    assert accuracy(rows, 0) == accuracy(rows, 0, "none") == 1 > accuracy(rows, 0.1)


def test_records_of_table_1_stay_apart(case: Case) -> None:
    attack_all(case, Request(["whitebox"], ["fgsm"], 60))
    attack_all(case, Request(["whitebox"], ["fgsm"], 60, "l2", (0.1,)))
    assert records.roots_of(case.folder) == ["records", "threat-models/l2-0.1"]
    assert not (case.folder / "stale-records").exists()


@pytest.mark.parametrize("target", [None, "3", "least-likely"])
@pytest.mark.parametrize("ball", [None, Ball("l2", 0.5), Ball("linf", 1e-05)])
def test_the_name_of_a_folder_says_what_its_records_are(ball: Ball | None, target: str | None) -> None:
    task = Task("model", "whitebox", "pgd", ball, target)
    assert task_at(task.root, "model", "whitebox", "pgd") == task


def test_targeted_success_is_the_exact_one(case: Case, weight: Tensor) -> None:
    """An image is mistaken for the target exactly if it reaches that class's region within ε."""
    attack_all(case, Request(["whitebox"], ["pgd"], 60, "linf", (0.1,), "2"))
    (row,) = [row for row in threat_rows(case.folder) if row.attack == "pgd"]
    record = records.read_records(case.folder, root="threat-models/linf-0.1-target-2")["model", "whitebox", "pgd"]
    images, labels = case.split.images.flatten(1) - 0.5, case.split.labels
    others = labels != 2
    # two classes at a time the region is a half space; the intersection of all is at most as near as the farthest
    logits = images @ weight.T
    gaps = (logits - logits[:, 2:3]) / (weight - weight[2]).abs().sum(1).clamp_min(1e-9)
    impossible = gaps.scatter(1, torch.full((60, 1), 2), -torch.inf).amax(1) > 0.1
    hit = torch.from_numpy(record.hit)
    assert not (hit & impossible).any()
    assert row.success == pytest.approx(hit[others].float().mean().item())
    assert hit[others & ~impossible].float().mean() > 0.7
    assert (record.columns["adversarial_prediction"][record.hit] == 2).all()


def test_the_least_likely_class_is_each_image_s_own(case: Case, weight: Tensor) -> None:
    attack_all(case, Request(["whitebox"], ["pgd"], 60, "linf", (0.3,), "least-likely"))
    root = "threat-models/linf-0.3-target-least-likely"
    record = records.read_records(case.folder, root=root)["model", "whitebox", "pgd"]
    assert np.array_equal(record.columns["target"], ((case.split.images.flatten(1) - 0.5) @ weight.T).argmin(1).numpy())
    assert record.hit.mean() > 0.5


def test_all_means_every_class(case: Case) -> None:
    attack_all(case, Request(["whitebox"], ["fgsm"], 60, None, (), "all"))
    assert records.roots_of(case.folder)[1:] == [f"threat-models/budgets-target-{label}" for label in range(4)]


def test_a_target_that_is_no_class_is_one_line(case: Case) -> None:
    with pytest.raises(UserError, match="target 4 is not a class: expected a number from 0 to 3"):
        attack_all(case, Request(["whitebox"], ["fgsm"], 60, None, (), "4"))


def test_kept_images_are_the_ones_that_were_judged(case: Case, weight: Tensor) -> None:
    for count in (20, 60):  # a second call adds images
        attack_all(case, Request(["whitebox"], ["pgd"], count, "linf", (0.05,), None, True))
    path = records.path_of(case.folder, "model", "whitebox", "pgd", "threat-models/linf-0.05")
    record = records.read_record(path)
    kept = kept_images.kept_images(kept_images.kept_path(case.folder, path), case.split.images, 0)
    assert record is not None and kept is not None and len(record) == 60
    assert (kept - case.split.images).abs().max() <= 0.05 + 1e-4
    predicted = ((kept.flatten(1) - 0.5) @ weight.T).argmax(1).numpy()
    assert (predicted == record.columns["adversarial_prediction"]).mean() > 0.95  # float16 differences
    assert {row.rounded is None for row in threat_rows(case.folder) if row.attack == "pgd"} == {False}


def test_what_was_judged_without_images_is_judged_again_with_them(case: Case) -> None:
    attack_all(case, Request(["whitebox"], ["pgd"], 60))
    attack_all(case, Request(["whitebox"], ["pgd"], 60, keep_images=True))
    record = records.read_records(case.folder)["model", "whitebox", "pgd"]
    assert len(record) == 60 and "rounded_prediction" in record.columns


def test_rounding_undoes_a_perturbation_below_half_a_step(case: Case, weight: Tensor) -> None:
    grey = replace(case, split=Split(kept_images.rounded(case.split.images), case.split.labels))
    attack_all(grey, Request(["whitebox"], ["fgsm"], 60, "linf", (0.4 / 255,), None, True))
    (row,) = [row for row in threat_rows(case.folder) if row.attack == "fgsm"]
    assert row.rounded == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": (0.1, 0.1)}, "ε = 0.1 is given twice"),
        ({"eps": (-0.1,)}, r"eps\[0\] must be at least 0"),
        ({"eps": (float("nan"),)}, r"eps\[0\] must be a finite number"),
        ({"eps": ("x",)}, r"eps\[0\] must be a number"),
        ({"eps": (8.0,)}, "did you mean 8/255"),
        ({"norm": "l3"}, "unknown norm 'l3': expected one of linf, l2"),
        ({"norm": "l2", "attacks": ("vmifgsm",)}, "attack vmifgsm does not support L2, but L∞. These do: fgsm, pgd"),
        ({"norm": "l2", "attacks": ("pixle",)}, "attack pixle does not support L2, but no norm: it moves pixels"),
        ({"norm": "linf", "attacks": ("cw",)}, "attack cw does not support L∞, but L2"),
        ({"target": "cat"}, "target 'cat': expected the number of a class, least-likely or all"),
        ({"target": "-1"}, "target '-1': expected the number of a class"),
        ({"attacks": ("mine",)}, "unknown attack 'mine'"),
        (
            {"attacks": ("no_such_module:attack",)},
            "attack 'no_such_module:attack': the import of no_such_module raised",
        ),
    ],
)
def test_a_wrong_request_is_one_line(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Request(**changes)
    assert "\n" not in str(caught.value)


def test_the_default_attacks_of_a_norm_are_those_that_support_it() -> None:
    """A3 takes the place of AutoAttack where it supports the norm. There is an attack for every norm."""
    assert attacks_for(None, "l2") == ("fgsm", "pgd", "a3", "eotpgd")
    assert attacks_for(None, "l1") == ("aa",)
    assert attacks_for(None, None) == ("fgsm", "pgd", "a3", "eotpgd", "vmifgsm")
    assert attacks_for(("aa",), None) == ("aa",)


OWN = """
import torch

def step(model, images, labels, *, eps):
    with torch.enable_grad():
        point = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(point), labels, reduction="sum")
        (slope,) = torch.autograd.grad(loss, point)
    return (images + eps * slope.sign()).clamp(0, 1)

def beyond_the_ball(model, images, labels, *, eps):
    return (images + 2 * eps).clamp(0, 1)

def beyond_the_box(model, images, labels, *, eps):
    return images + eps

def needy(model, images, labels, *, eps, secret):
    return images

def few(model, images):
    return images

def broken(model, images, labels, **keywords):
    raise RuntimeError("it does not work")

def text(model, images, labels, **keywords):
    return "images"
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_attacks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own_module")
def test_an_attack_of_the_user_s_own_is_judged_like_any_other(case: Case) -> None:
    request = Request(["whitebox", "adaptive"], ["own_attacks:step", "fgsm"], 60, "linf", (0.01, 0.02))
    attack_all(case, request)
    rows = threat_rows(case.folder)
    assert accuracy(rows, 0.02, "own_attacks:step") == pytest.approx(accuracy(rows, 0.02, "fgsm"), abs=0.1)
    assert 0 < accuracy(rows, 0.01, "own_attacks:step") < 1


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("beyond_the_ball", r"returned an image outside the linf ball of ε = 0.4"),
        ("beyond_the_box", "returned an image outside the box"),
        ("broken", "raised RuntimeError: it does not work"),
        ("text", "returned a str: expected a tensor of images"),
        ("needy", "requires 'secret', but the judge gives only eps, norm, bounds, generator"),
        ("few", r"expected a function of \(model, images, labels"),
        ("missing", "own_attacks has no missing"),
    ],
)
def test_a_wrong_attack_of_the_user_s_own_is_one_line(case: Case, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        attack_all(case, Request(["whitebox"], [f"own_attacks:{name}"], 60, "linf", (0.4,)))
    assert "\n" not in str(caught.value) and "own_attacks" in str(caught.value)
    assert not records.read_records(case.folder, root="threat-models/linf-0.4")
