"""What a caller gives where a tensor is expected: converted where that is harmless, or else refused in one line."""

import reprlib
import warnings

import numpy as np
import torch
from torch import Tensor

from grfd.errors import UserError

EXPECTED_TENSOR = "expected a tensor, a numpy array or nested lists of numbers"
_MOST_DIGITS = 40


def as_tensor(value: object, what: str) -> Tensor:
    """A dense tensor on the CPU with the given values: the same object where it is one already.

    Raises UserError where there are no numbers, or rows of different lengths.
    """
    if isinstance(value, Tensor):
        return _plain(value, what)
    if isinstance(value, list | tuple) and value and all(isinstance(each, Tensor) for each in value):
        try:
            return torch.stack([_plain(each, what) for each in value])
        except RuntimeError as error:
            raise UserError(
                f"{what} are {described_value(value)} of tensors of different shapes; {EXPECTED_TENSOR}"
            ) from error
    if not isinstance(value, list | tuple | np.ndarray | np.generic):
        raise UserError(f"{what} are {described_value(value)}; {EXPECTED_TENSOR}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # older versions of numpy only warn of rows of different lengths
            array = np.array(value)
        # Python's floats become float32, because nobody chose their precision; an array keeps its own
        single = array.dtype == np.float64 and not isinstance(value, np.ndarray)
        return torch.from_numpy(array.astype(np.float32) if single else array)
    except (TypeError, ValueError, OverflowError, RuntimeError, Warning) as error:
        raise UserError(
            f"{what} are {described_value(value)}, not all equal rows of 64-bit numbers; {EXPECTED_TENSOR}"
        ) from error


def _plain(tensor: Tensor, what: str) -> Tensor:
    """The tensor on the CPU, without a gradient and usable outside inference mode; the same object where it is so."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        kind = "quantized" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}"
        raise UserError(f"{what} are a tensor that is {kind}; expected a dense tensor with values")
    if tensor.requires_grad or tensor.device.type != "cpu":
        tensor = tensor.detach().cpu()
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):  # or the copy would be an inference tensor again
        return tensor.clone()


def described_value(value: object) -> str:
    """A short description of any value, whatever its type and size."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and abs(value) >= 10**_MOST_DIGITS:  # Python refuses to print very large integers
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, int | float | complex | str | bytes):
        return reprlib.repr(value) if isinstance(value, str | bytes) else repr(value)
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
