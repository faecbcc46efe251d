"""How the C library hands out memory: a step that asks for the same tensors again should get the same pages."""

import ctypes
import platform

# Constants of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_TRIM_NEVER = 2**31 - 1
_LARGEST_FROM_HEAP = 2**30
_GROW_BY = 2**26


def keep_freed_memory() -> bool:
    """Makes glibc's malloc keep freed memory for the next tensor. Returns whether it did (glibc alone can).

    By default large blocks go back to the kernel when they are freed, and each page of the next one is cleared anew
    when it is first touched. It holds for the whole process, whose memory stays at its peak; PyTorch does the same on a
    GPU. `benchmarks/stage_one.py` measures what it gains.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_TRIM_THRESHOLD: _TRIM_NEVER, _M_MMAP_THRESHOLD: _LARGEST_FROM_HEAP, _M_TOP_PAD: _GROW_BY}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
