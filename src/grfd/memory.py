"""Free memory, and a setting of the C library by which new tensors reuse the memory of freed ones."""

import ctypes
import platform
from pathlib import Path

import torch

# Constants of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_TRIM_NEVER = 2**31 - 1
_LARGEST_FROM_HEAP = 2**30
_GROW_BY = 2**26


def keep_freed_memory() -> bool:
    """Makes glibc's malloc keep freed memory for the next tensor. Returns whether it succeeded (only with glibc).

    By default, large blocks go back to the kernel when they are freed, and the kernel clears each page of the next
    block again. The setting is for the whole process, whose memory then stays at its peak. PyTorch does the same on a
    GPU. `benchmarks/stage_one.py` measures the gain.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_TRIM_THRESHOLD: _TRIM_NEVER, _M_MMAP_THRESHOLD: _LARGEST_FROM_HEAP, _M_TOP_PAD: _GROW_BY}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def available(device: torch.device) -> int | None:
    """Bytes that are free on a device, or None if the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _available_on_cpu() if device.type == "cpu" else None


def _available_on_cpu() -> int | None:
    """Bytes that Linux can still give to a process, from the machine and from its control group if it has one."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    group = [_number_in(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current")]
    return free if group[0] is None or group[1] is None else min(free, max(group[0] - group[1], 0))


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def in_words(size: int) -> str:
    """A number of bytes in MiB or GiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
