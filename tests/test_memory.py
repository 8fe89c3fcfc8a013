"""Laws of freed memory: it waits in the process where it is wanted again, and leaves it where others want it."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switches are glibc's")

KEPT = """
import resource
from jangin.memory import keep

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    blocks = [bytes(bytearray(2**20)) for _ in range(64)]

keep()
before = faults()
step()
first = faults()
step()
print(first - before, faults() - first)
"""

GIVEN_BACK = """
from pathlib import Path
from jangin.memory import give_back

def pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

give_back(2**17)
bytearray(2**25)  # after which glibc by itself would keep blocks of this size
before = pages()
blocks = [bytearray(b"x" * 2**18) for _ in range(256)]
held = pages()
kept = blocks[1::2]  # between those that are freed
del blocks
print(held - before, pages() - before)
"""


def said(program: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return list(map(int, done.stdout.split()))


def test_what_a_step_freed_the_next_takes_without_the_kernel() -> None:
    first, second = said(KEPT)
    assert first > 10_000
    assert second < first / 20


def test_blocks_that_are_freed_leave_the_process_though_others_stay_between_them() -> None:
    held, left = said(GIVEN_BACK)
    assert held > 15_000
    assert left < 0.6 * held
