"""Reading a pickle that could be anything: numpy arrays of numbers and plain values are made of it, and nothing else.

Neither code nor memory is had by it. No name is imported, and what it holds is never larger than its bytes: Python's
own unpickler is used, because the one in C reserves memory for any number that a pickle writes beside a PUT.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

_NUMBER_KINDS = "biuf"
"""Kinds of numpy's dtypes that are made: truth values, integers and floats."""


class _Part:
    """Stands for one of the names that a pickled array asks for. Without attributes, a pickle cannot change it."""

    __slots__ = ()


class _Array(_Part):
    """numpy.ndarray: only the first argument of `_reconstruct`, and not to be called with a size."""


class _Reconstruct(_Part):
    """numpy's `_reconstruct`: an empty array whose contents come with BUILD, whatever shape is asked for here."""

    def __call__(self, *_: object) -> np.ndarray:
        return np.empty(0, np.uint8)


class _DType(_Part):
    """numpy.dtype of a number, as a copy, because BUILD sets its byte order."""

    def __call__(self, code: str | bytes, *_: object) -> np.dtype:
        dtype = np.dtype(code.decode() if isinstance(code, bytes) else code, copy=True)
        if dtype.kind not in _NUMBER_KINDS:
            raise pickle.UnpicklingError(f"it holds an array of {dtype}, which are no numbers")
        return dtype


_PARTS: dict[tuple[str, str], _Part] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): _Array(),
    ("numpy", "dtype"): _DType(),
}


_OPCODES: dict[int, Callable[[Any], None]] = {
    opcode: read
    for opcode, read in pickle._Unpickler.dispatch.items()
    if opcode not in (pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0])  # the first reserves whatever size it states
}


class _Reader(pickle._Unpickler):
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        where = (module.replace("numpy._core", "numpy.core"), name)
        if where not in _PARTS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array and no plain value")
        return _PARTS[where]

    def build(self) -> None:
        target, state = self.stack[-2:]
        plain = isinstance(target, np.dtype) and all(part is None for part in state[2:5])  # no fields, no subarray
        if not plain and not isinstance(target, np.ndarray):
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}, which is no array")
        _OPCODES[pickle.BUILD[0]](self)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = _OPCODES | {pickle.BUILD[0]: build}


def unpickled(content: bytes) -> Any:
    """What a pickle holds, strings of Python 2 as bytes. Raises any exception for a damaged or a harmful one."""
    return _Reader(io.BytesIO(content), encoding="bytes").load()
