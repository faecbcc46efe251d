"""How an attack calls a model: with a copy of the images, in the caller's precision, and with a check of the answer."""

import torch
from torch import Tensor

from grfd.attacks.row_parallel import forward_in_parts, is_worth_parts, rows_are_independent
from grfd.errors import UserError
from grfd.types import Images, Logits

_IMAGES_PER_PASS = 256
"""Number of images in one forward pass on a CPU. The features of many more images do not fit into its cache."""


class CheckedModel:
    """A model as attacks call it: images [batch, channel, height, width] → logits of the images' own dtype.

    The model receives a copy, so a model that changes its input in place does not change the images of the attack or
    of the caller. `dtype` is the caller's, in which the model is called, while attacks compute at least in float32.
    `largest` is the largest label, which must be one of the model's classes. Raises UserError for an answer that is not
    one row of at least two floating-point logits for each image.
    """

    def __init__(self, model: object, dtype: torch.dtype, largest: int) -> None:
        self.model = model
        self.dtype = dtype
        self.largest = largest
        self.in_parts = rows_are_independent(model)
        """Whether parts of a batch are computed at the same time on a CPU."""

    def __call__(self, images: Images) -> Logits:
        copy = images.to(self.dtype) if images.dtype != self.dtype else images.clone()
        answer = self.model(copy)  # type: ignore[operator]
        check_logits(answer, len(images))
        if self.largest >= answer.shape[1]:
            raise UserError(
                f"a label is {self.largest}, but the model answers with {answer.shape[1]} classes: "
                f"expected labels from 0 to {answer.shape[1] - 1}"
            )
        return answer.to(images.dtype)


def check_logits(answer: object, count: int) -> None:
    """Raises UserError where a model's answer to `count` images is not a float tensor [count, classes ≥ 2]."""
    if not isinstance(answer, Tensor):
        raise UserError(
            f"the model answers with a {type(answer).__name__}; expected a tensor of logits [{count}, classes]: "
            "wrap the model in a function that returns its logits"
        )
    if answer.ndim != 2 or answer.shape[0] != count or answer.shape[1] < 2:
        raise UserError(
            f"the model answers with {tuple(answer.shape)} for {count} images; expected [{count}, classes], "
            "one logit for each of at least two classes"
        )
    if not answer.is_floating_point():
        raise UserError(f"the model answers with {answer.dtype}; expected floating-point logits")


def logits_of(model: CheckedModel, images: Images) -> Logits:
    """The model's logits. On a CPU, they are computed in parts: row-parallel, or of `_IMAGES_PER_PASS` images."""
    if model.in_parts and not torch.is_grad_enabled() and is_worth_parts(images):
        return forward_in_parts(model, images)
    if images.device.type != "cpu" or len(images) <= _IMAGES_PER_PASS:
        return model(images)
    return torch.cat([model(part) for part in images.split(_IMAGES_PER_PASS)])
