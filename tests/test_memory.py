"""Freed memory is kept: what malloc took for a large tensor stays with the process. In a process of its own."""

import ctypes
import platform
import subprocess
import sys

import pytest

MEASURE = """
import ctypes, sys, torch
from grfd.memory import keep_freed_memory
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def held():
    info = mallinfo()
    return info.arena + info.hblkhd
before, mapped_before = held(), mallinfo().hblkhd
tensor = torch.zeros(25_000_000)
mapped = mallinfo().hblkhd - mapped_before
del tensor
print(mapped, held() - before)
"""
TENSOR = 100_000_000
"""Bytes of the tensor: more than glibc ever takes from its heap by default."""


def measured(how: str) -> tuple[int, int]:
    """Bytes mapped apart while the tensor is there, and bytes more than before that are held once it is gone."""
    done = subprocess.run([sys.executable, "-c", MEASURE, how], capture_output=True, text=True, check=True)
    mapped, held = map(int, done.stdout.split())
    return mapped, held


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="only glibc's malloc can be told, and from 2.33 on asked",
)
def test_what_a_tensor_had_stays_with_the_process() -> None:
    mapped, held = measured("leave")
    assert mapped >= TENSOR > held
    mapped, held = measured("keep")
    assert mapped < TENSOR <= held
