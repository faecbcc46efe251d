"""A moving average of weights beside the ones that are trained (Polyak and Juditsky 1992, with exponential weights)."""

from copy import deepcopy

import torch
from torch import nn

from grfd.training.loop import Terms
from grfd.types import Features, Labels


class Averaged(nn.Module):
    """An objective, and the moving average of the model that it trains.

    average ← decay · average + (1 − decay) · weights, once a training step; buffers (batch norm's statistics) are
    copied. It lies in the objective's state, so that a checkpoint holds it and a resumed run ends with the same bits.
    """

    def __init__(self, objective: nn.Module, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.objective = objective
        self.average = deepcopy(model).requires_grad_(False)
        self.decay = decay
        self._model = [model]  # in a list: it is the objective's, and must not be registered twice

    def forward(self, images: Features, labels: Labels, progress: float) -> Terms:
        self.follow()  # what the last step has made of the weights: this step is still to come
        return self.objective(images, labels, progress)

    @torch.no_grad()
    def follow(self) -> None:
        """One step of the average."""
        (model,) = self._model
        for weight, trained in zip(self.average.parameters(), model.parameters(), strict=True):
            weight.lerp_(trained.detach(), 1 - self.decay)
        for buffer, now in zip(self.average.buffers(), model.buffers(), strict=True):
            buffer.copy_(now)
