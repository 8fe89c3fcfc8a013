"""What the worker frees goes back to the system: two processes with vectors of many megabytes share one machine.

The law: nothing fails where the C library has no such switch.
"""

import ctypes
from contextlib import suppress
from typing import Final

__all__ = ["give_back"]

_MMAP_THRESHOLD: Final = -3  # glibc, malloc.h: M_MMAP_THRESHOLD
_LARGE_BYTES: Final = 2**20


def give_back() -> None:
    """Have blocks of 1 MiB and more returned as soon as they are freed.

    Left alone, glibc raises that bound with each large block that is freed, and keeps pieces of replies in its heaps.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
