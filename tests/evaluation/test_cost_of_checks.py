"""Masking checks of large images cost what is written beside them, and no more images are read than they need."""

from pathlib import Path

import torch
from torch import Tensor, nn

from grfd.data.record import Split
from grfd.evaluation import checks
from grfd.evaluation.case import Case, budgets_for
from grfd.evaluation.checks import run_checks

SIDE, CHECKED = 72, 6


class Counting(nn.Module):
    """A small network that counts its images, forward and, by a hook, backward."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
        self.forwards = self.backwards = self.largest = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        self.largest = max(self.largest, len(images))
        logits: Tensor = self.network(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def test_checks_of_large_images_take_the_passes_that_are_counted(tmp_path: Path) -> None:
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(300, 3, SIDE, SIDE, generator=stream)
    model = Counting()
    model(images[:2])
    model.eval()
    with torch.no_grad():
        labels = model(images).argmax(1)
    model.forwards = model.backwards = model.largest = 0
    case = Case(tmp_path, {"model": model}, Split(images, labels), budgets_for(3), 0, torch.device("cpu"))
    run_checks(case, CHECKED)
    cost = (model.forwards + 2 * model.backwards) / CHECKED
    assert 300 < cost <= checks._PASSES_OF_CHECKS
    assert model.largest <= 50
