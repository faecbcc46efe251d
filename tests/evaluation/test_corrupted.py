"""Accuracy under corruptions: stored, kept, replaced, and refused where damaged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from grfd.data import Split
from grfd.data.corruptions import CORRUPTIONS, corrupted
from grfd.errors import UserError
from grfd.evaluation.case import Case, budgets_for
from grfd.evaluation.corrupted import corruption_rows, judge_corruptions
from grfd.report.threat_tables import corruption_tables


class Linear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5).flatten(1) @ self.weight.T


@pytest.fixture
def case(tmp_path: Path) -> Case:
    stream = torch.Generator().manual_seed(0)
    weight, images = torch.randn(4, 64, generator=stream), torch.rand(30, 1, 8, 8, generator=stream)
    split = Split(images, ((images - 0.5).flatten(1) @ weight.T).argmax(1))
    return Case(tmp_path, {"model": Linear(weight)}, split, budgets_for(1), 0, torch.device("cpu"))


def test_each_cell_is_the_accuracy_on_those_images(case: Case) -> None:
    judge_corruptions(case, 30)
    rows = corruption_rows(case.folder)
    assert len(rows) == 5 * len(CORRUPTIONS)
    for row in rows[::7]:
        changed = corrupted(case.split.images, row.corruption, row.severity, 0)
        right = case.models["model"](changed).argmax(1) == case.split.labels
        assert row.accuracy == pytest.approx(right.float().mean().item()) and row.examples == 30
    assert min(row.accuracy for row in rows) < 1
    assert len(corruption_tables(rows)[0].rows) == len(CORRUPTIONS) + 6


def test_what_is_stored_is_kept_and_another_model_replaces_it(case: Case) -> None:
    judge_corruptions(case, 30)
    file = case.folder / "corruptions/model.npz"
    before = file.stat().st_mtime_ns
    judge_corruptions(case, 20)
    assert file.stat().st_mtime_ns == before
    other = replace(case, models={"model": Linear(-case.models["model"].weight.detach())})
    judge_corruptions(other, 30)
    assert max(row.accuracy for row in corruption_rows(case.folder)) < 0.6


def test_a_damaged_file_is_one_line(case: Case) -> None:
    judge_corruptions(case, 30)
    file = case.folder / "corruptions/model.npz"
    with np.load(file) as stored:
        content = dict(stored)
    np.savez_compressed(file, **content | {"label": content["label"][:-1]})
    with pytest.raises(UserError, match="is damaged") as caught:
        corruption_rows(case.folder)
    assert "\n" not in str(caught.value)
