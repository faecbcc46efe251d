"""Reads pickles that are not trusted: only numpy arrays of numbers and plain values can come out of them.

A pickle can neither run code nor exhaust the memory. Nothing is imported, and the result is never larger than the
pickle. Python's own unpickler is used, because the one in C reserves memory for any index that a PUT names.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

_NUMBER_KINDS = "biuf"
"""The kinds of numpy dtypes that are allowed: booleans, integers and floats."""


class _Part:
    """Stands for a name that a pickled array refers to. It has no attributes, so a pickle cannot change it."""

    __slots__ = ()


class _Array(_Part):
    """numpy.ndarray, only as the first argument of `_reconstruct`. It cannot be called with a size."""


class _Reconstruct(_Part):
    """numpy's `_reconstruct`: returns an empty array, whatever shape is asked for. BUILD sets the contents later."""

    def __call__(self, *_: object) -> np.ndarray:
        return np.empty(0, np.uint8)


class _DType(_Part):
    """numpy.dtype of a number. It is a copy, because BUILD sets its byte order."""

    def __call__(self, code: str | bytes, *_: object) -> np.dtype:
        dtype = np.dtype(code.decode() if isinstance(code, bytes) else code, copy=True)
        if dtype.kind not in _NUMBER_KINDS:
            raise pickle.UnpicklingError(f"it holds an array of {dtype}, which are not numbers")
        return dtype


_PARTS: dict[tuple[str, str], _Part] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): _Array(),
    ("numpy", "dtype"): _DType(),
}


_OPCODES: dict[int, Callable[[Any], None]] = {
    opcode: read
    for opcode, read in pickle._Unpickler.dispatch.items()
    if opcode
    not in (pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0])  # the first reserves memory for any size that it states
}


class _Reader(pickle._Unpickler):
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        where = (module.replace("numpy._core", "numpy.core"), name)
        if where not in _PARTS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is neither an array nor a plain value")
        return _PARTS[where]

    def build(self) -> None:
        target, state = self.stack[-2:]
        plain = isinstance(target, np.dtype) and all(part is None for part in state[2:5])  # no fields, no subarray
        if not plain and not isinstance(target, np.ndarray):
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}, which is not an array")
        _OPCODES[pickle.BUILD[0]](self)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = _OPCODES | {pickle.BUILD[0]: build}


def unpickled(content: bytes) -> Any:
    """The content of a pickle, with strings of Python 2 as bytes. A damaged or harmful one may raise any exception."""
    return _Reader(io.BytesIO(content), encoding="bytes").load()
