"""A moving average of weights beside the ones that are trained (Polyak and Juditsky 1992, with exponential weights)."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from grfd.training.loop import Terms
from grfd.types import Features, Labels


class Averaged(nn.Module):
    """An objective, and the moving average of the model that it trains.

    average ← decay · average + (1 − decay) · weights, once a training step; buffers (batch norm's statistics) are
    copied. It lies in the objective's state, so that a checkpoint holds it and a resumed run ends with the same bits.
    """

    def __init__(self, objective: nn.Module, model: nn.Module, decay: float) -> None:
        super().__init__()
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        averaged.n_averaged.fill_(1)  # the average starts as the model: a resumed one must not start anew from it
        self.objective = objective
        self.average = averaged.module.requires_grad_(False)
        # in a tuple: the model is the objective's and the average is registered already, neither must be so twice
        self._pair = (averaged, model)

    def forward(self, images: Features, labels: Labels, progress: float) -> Terms:
        self.follow()  # what the last step has made of the weights: this step is still to come
        return self.objective(images, labels, progress)

    def follow(self) -> None:
        """One step of the average."""
        averaged, model = self._pair
        averaged.update_parameters(model)
