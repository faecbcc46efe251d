"""An exponential moving average of the weights during training (after Polyak and Juditsky 1992)."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from grfd.training.loop import Terms
from grfd.types import Features, Labels


class Averaged(nn.Module):
    """An objective, together with the moving average of the model that it trains.

    average ← decay · average + (1 − decay) · weights, once per training step. Buffers (the statistics of batch norm)
    are copied. The average is part of this module's state: a checkpoint contains it, and a resumed training ends with
    the same bits.
    """

    def __init__(self, objective: nn.Module, model: nn.Module, decay: float) -> None:
        super().__init__()
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        averaged.n_averaged.fill_(1)  # or the first step after resuming would replace the average by the weights
        self.objective = objective
        self.average = averaged.module.requires_grad_(False)
        # in a tuple, so that neither is registered as a submodule a second time
        self._pair = (averaged, model)

    def forward(self, images: Features, labels: Labels, progress: float) -> Terms:
        self.follow()  # takes in the weights of the previous step, since this step is still to come
        return self.objective(images, labels, progress)

    def follow(self) -> None:
        """Updates the average with the present weights."""
        averaged, model = self._pair
        averaged.update_parameters(model)
