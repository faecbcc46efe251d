"""Freed memory is kept: a tensor that is made again and again costs no page faults. In a process of its own."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from grfd.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    kept = [torch.zeros(1_000_000) for _ in range(4)]
    return sum(tensor[0].item() for tensor in kept)
use(), use()
before = faults()
for _ in range(20):
    use()
print(faults() - before)
"""


def count(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told")
def test_a_tensor_made_again_touches_no_new_pages() -> None:
    # by how much depends on the kernel's page size: with huge pages a fault covers 500 small ones
    assert count("keep") < count("leave") / 4
