"""Pickles that could be anything: arrays of numbers and plain values are read, everything else is refused."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grfd.data.pickles import unpickled

PLAIN = {
    b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    b"labels": [0, -1, 2**80, 1.5, None, True],
    b"names": ("a", b"b", "é"),
    b"big": np.array([1, 256], dtype=">u2"),
    b"column": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


@pytest.mark.parametrize("protocol", [3, 4])  # test_cifar.py reads those of Python 2
def test_arrays_and_plain_values_are_read(protocol: int) -> None:
    found = unpickled(pickle.dumps(PLAIN, protocol))
    assert found.keys() == PLAIN.keys()
    assert found[b"labels"] == PLAIN[b"labels"] and found[b"names"] == PLAIN[b"names"]
    for name in (b"data", b"big", b"column"):
        assert np.array_equal(found[name], PLAIN[name])
        assert found[name].dtype.newbyteorder("=") == PLAIN[name].dtype.newbyteorder("=")


def test_the_byte_order_of_one_array_does_not_change_another() -> None:
    first, second = unpickled(pickle.dumps([np.array([1], dtype=">i4"), np.array([1], dtype="<i4")], 3))
    assert first.tolist() == second.tolist() == [1] and np.dtype("i4").isnative


def called(module: bytes, name: bytes, arguments: bytes) -> bytes:
    return b"\x80\x02c" + module + b"\n" + name + b"\n" + arguments + b"R."


HARMFUL = {
    "a name": (b"\x80\x02cbuiltins\neval\n.", "refers to builtins.eval"),
    "a call": (called(b"os", b"system", b"X\x04\0\0\0true\x85"), "refers to os.system"),
    "a large array": (called(b"numpy", b"ndarray", b"\x8a\x05\0\0\0\0\x10\x85\x85"), "not callable"),
    "array of objects": (called(b"numpy", b"dtype", b"X\x01\0\0\0O\x85"), "an array of object"),
    "array of records": (called(b"numpy", b"dtype", b"X\x05\0\0\0u1,u1\x85"), "which are not numbers"),
    "state of a stand-in": (b"\x80\x02cnumpy\ndtype\n}X\x01\0\0\0aK\x01sb.", "sets the state of a _DType"),
    "bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "150"),
}


@pytest.mark.parametrize(("content", "message"), HARMFUL.values(), ids=HARMFUL.keys())
def test_everything_else_is_refused(content: bytes, message: str) -> None:
    with pytest.raises((pickle.UnpicklingError, TypeError, KeyError), match=message):
        unpickled(content)


def test_a_stated_number_takes_no_memory() -> None:
    array = called(b"numpy.core.multiarray", b"_reconstruct", b"cnumpy\nndarray\n\x8a\x05\0\0\0\0\x10\x85C\x01b\x87")
    tracemalloc.start()
    assert unpickled(array).size == 0
    assert unpickled(b"\x80\x02Nr" + struct.pack("<I", 2**28) + b".") is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_make_anything_but_plain_values(content: bytes) -> None:
    try:
        found = unpickled(content)
    except Exception:  # any error of unpickling is right here; only a value of another type would be wrong
        return
    assert isinstance(found, (int, float, str, bytes, tuple, list, dict, set, frozenset, np.ndarray, type(None))) or (
        type(found).__module__ == "grfd.data.pickles"
    )
